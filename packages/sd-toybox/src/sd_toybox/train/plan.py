"""Every number of the training, each with its reason; meant for 90 minutes on two idle cores.

| part      | minutes | what                                                      |
|-----------|---------|-----------------------------------------------------------|
| pictures  |       3 | 24,000 for the model, 12,000 for its judge, 1,600 to test |
| vae       |      13 | 8,000 steps of 16 squares of 32² or 8 pictures            |
| clip      |      10 | 2,400 steps of 64                                         |
| diffusion |      46 | 5,800 steps of 32, latents encoded beforehand             |
| measure   |      14 | 2,000 samples of 50 steps and 240 with words              |

Expected from the speed of single parts. Nobody has seen the whole on an idle machine: the shipped
model took 114 minutes on two cores that others used, as its card says.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from sd_core.errors import ConfigError
from sd_toybox.model.networks import FULL as FULL_SIZES
from sd_toybox.model.networks import TINY as TINY_SIZES
from sd_toybox.model.networks import NetworkSizes

# Adam's second moment forgets in 100 steps, not 1,000: these trainings have a few thousand.
BETAS: Final = (0.9, 0.99)
# As published for AdamW with transformers; the networks are far from fitting by heart.
WEIGHT_DECAY: Final = 0.01
# Longer gradients are cut to this: a few batches with all corruptions would undo many steps.
LONGEST_GRADIENT: Final = 1.0

# The VAE's loss is the mean over pixels in [-1, 1] of |x̂ - x| + 2·|∇x̂ - ∇x| + (x̂ - x)², and
# KL_WEIGHT times the mean KL of a latent number. LPIPS would be sharper, but is as large as all
# of this model. The KL weight keeps latents near unit variance and costs 1 % of the loss.
EDGE_WEIGHT: Final = 2.0
SQUARE_WEIGHT: Final = 1.0
KL_WEIGHT: Final = 1e-4

# A short training of a VAE lacks steps, not pictures: in 75 s of one core, 150 steps of 16 pictures
# reach 18.6 dB, 300 of 8 20.1, and 450 of 16 squares of 32² 20.8. So the first steps see squares,
# and the last ones whole pictures, for which the group norms have other means.
CROP: Final = 32
CROPPED_SHARE: Final = 0.7

# The CLIP model's captions: so many name the view besides kind and colour, and so many the words.
NAMED_VIEW_SHARE: Final = 0.4
NAMED_WORDS_SHARE: Final = 0.5
# Weights of the helping losses against the contrastive one's 1: kind and colour are told by the
# captions as well, the azimuth only in four views.
KIND_WEIGHT, COLOUR_WEIGHT, AZIMUTH_WEIGHT, PATCH_AZIMUTH_WEIGHT = 0.5, 0.5, 1.0, 0.5

# So many texts are dropped, as in Stable Diffusion, so that the empty text is the whole world.
TEXT_DROPOUT: Final = 0.1
# Min-SNR (Hang et al. 2023, their γ): most of the plain ε-loss is noise at small t that cannot be
# seen, and a short training has no time for it.
MIN_SNR_GAMMA: Final = 5.0
# Sampling begins with pure noise, and training ends at noise with α² = 0.0047 of the latents in it.
# Against that, pure noise is evidence of latents with a small norm, and the norm depends on the
# pose: with variance 1 the poses of samples are not those of the pictures. At a standard
# deviation of 0.5 a quarter of the evidence is left.
LATENT_STD: Final = 0.5
# The average of the last 1,000 steps or so.
EMA_DECAY: Final = 0.999

SAMPLING_STEPS: Final = 50  # DDIM's usual number
SAMPLING_SCALE: Final = 7.5  # Stable Diffusion's usual scale
SAMPLING_BATCH: Final = 64


@dataclass(frozen=True)
class Phase:
    """One training: how many steps of how many samples, and how far a step goes.

    The rate rises in a straight line for `warm_up` steps and falls along a cosine to 0.
    """

    steps: int
    batch: int
    rate: float
    warm_up: int


@dataclass(frozen=True)
class Plan:
    """What is made, and how large."""

    sizes: NetworkSizes
    world_pictures: int  # at the world's rates, without the held-out combinations
    judge_pictures: int  # from all around evenly, of all combinations: the CLIP model only measures
    test_pictures: int  # at the world's rates, of all combinations
    judge_test_pictures: int
    vae: Phase
    clip: Phase
    diffusion: Phase
    guided_samples: int  # at SAMPLING_SCALE, of combinations that were seen
    held_out_samples: int  # at SAMPLING_SCALE, of combinations that were not
    plain_samples: int  # at scale 1, of combinations that were seen
    word_samples: int  # at SAMPLING_SCALE, for each of the words measured
    judge_azimuths: int  # of the renders that samples are compared with; a multiple of 8
    judge_elevations_deg: tuple[float, ...]


# Rates: at twice its rate the VAE learns no faster; for transformers of this size 5e-4 to 1e-3 is
# usual. The CLIP model lacks steps too: in 86 s of one core, 200 steps of 64 bring its loss from
# 12.1 to 6.1, 100 of 128 to 8.2.
FULL: Final = Plan(
    sizes=FULL_SIZES,
    world_pictures=24_000,
    judge_pictures=12_000,
    test_pictures=1_000,
    judge_test_pictures=600,
    vae=Phase(steps=8_000, batch=16, rate=2e-3, warm_up=100),
    clip=Phase(steps=2_400, batch=64, rate=1e-3, warm_up=100),
    diffusion=Phase(steps=5_800, batch=32, rate=5e-4, warm_up=200),
    guided_samples=750,
    held_out_samples=250,
    plain_samples=1_000,
    word_samples=48,
    judge_azimuths=24,
    judge_elevations_deg=(-10.0, 10.0, 30.0),
)
# What `--minutes` says is meant for two cores of 2023.
MINUTES: Final = 90.0
# Pictures and measurements: they take as long for a short training.
FIXED_MINUTES: Final = 20.0

# A smoke test of a minute: every part runs, and the result knows next to nothing.
QUICK: Final = Plan(
    sizes=TINY_SIZES,
    world_pictures=128,
    judge_pictures=128,
    test_pictures=32,
    judge_test_pictures=32,
    vae=Phase(steps=40, batch=8, rate=4e-3, warm_up=5),
    clip=Phase(steps=30, batch=32, rate=2e-3, warm_up=5),
    diffusion=Phase(steps=40, batch=16, rate=2e-3, warm_up=5),
    guided_samples=16,
    held_out_samples=8,
    plain_samples=16,
    word_samples=8,
    judge_azimuths=8,
    judge_elevations_deg=(10.0,),
)


def plan_for(minutes: float) -> Plan:
    """The full plan with more or fewer steps, so that all of it takes `minutes` on two cores."""
    shortest = FIXED_MINUTES + 5
    if minutes < shortest:
        raise ConfigError(
            f"--minutes is {minutes:g}, but pictures and measurements take {FIXED_MINUTES:g}. "
            f"Give at least {shortest:g}, or --quick for a trial that learns next to nothing."
        )
    share = (minutes - FIXED_MINUTES) / (MINUTES - FIXED_MINUTES)

    def scaled(phase: Phase) -> Phase:
        return replace(phase, steps=round(phase.steps * share))

    vae, clip, diffusion = map(scaled, (FULL.vae, FULL.clip, FULL.diffusion))
    return replace(FULL, vae=vae, clip=clip, diffusion=diffusion)


# What changes a training besides its plan.
_LEARNING: Final = (
    *(*BETAS, WEIGHT_DECAY, LONGEST_GRADIENT),
    *(EDGE_WEIGHT, SQUARE_WEIGHT, KL_WEIGHT, CROP, CROPPED_SHARE),
    *(NAMED_VIEW_SHARE, NAMED_WORDS_SHARE),
    *(KIND_WEIGHT, COLOUR_WEIGHT, AZIMUTH_WEIGHT, PATCH_AZIMUTH_WEIGHT),
    *(TEXT_DROPOUT, MIN_SNR_GAMMA, LATENT_STD, EMA_DECAY),
)


def fingerprint(plan: Plan, seed: int) -> str:
    """What a work folder was begun with: the numbers, the seed, and the sources of the world."""
    content = json.dumps([asdict(plan), _LEARNING, seed, world_version()])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def world_version() -> str:
    """A digest of the world's sources: another world needs other pictures."""
    folder = Path(__file__).parents[1] / "world"
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def seed_for(seed: int, *names: str | int) -> int:
    """A seed of its own for each purpose, so that one part's draws never shift another's."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:7], "big")
