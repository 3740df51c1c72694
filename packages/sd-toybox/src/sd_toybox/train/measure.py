"""What the model can do, in numbers: reconstruction, obedience to the prompt, poses, words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from sd_core.prior import AbstractPrior
from sd_core.shapes import Images, PerSample
from sd_toybox.train import statistics
from sd_toybox.train.data import Store
from sd_toybox.train.judges import ClipJudge, RenderJudge, Verdict
from sd_toybox.train.plan import SAMPLING_SCALE, Plan, seed_for
from sd_toybox.train.sampling import Sampler
from sd_toybox.world.corruptions import corrupted
from sd_toybox.world.kinds import COLOURS, HELD_OUT, KINDS
from sd_toybox.world.poses import POSES, pose_indices
from sd_toybox.world.samples import WorldSamples, sample_world_cameras

JudgeName = Literal["renders", "clip"]
Judge = Callable[[Images], Verdict]
Shares = tuple[float, ...]  # of POSES
Combination = tuple[str, str]  # a kind and a colour

# The word, what it should change, and whether up or down is decided by the world's own pictures.
WORDS: Final[Mapping[str, Callable[[Images], PerSample]]] = {
    "oversaturated": statistics.saturation,
    "foggy": statistics.saturation,
    "blurry": statistics.sharpness,
    "noisy": statistics.noisiness,
}
_POSE_DRAWS = 100_000


@dataclass(frozen=True)
class Right:
    """Shares of pictures whose kind, colour, both, or pose class a judge names as they were asked.

    Where no pose was asked for, `pose` is None.
    """

    kind: float
    colour: float
    both: float
    pose: float | None = None


@dataclass(frozen=True)
class WordEffect:
    """How much a word changes the mean of a statistic, in the world and in the model's samples."""

    word: str
    statistic: str
    world: float
    model: float

    @property
    def agrees(self) -> bool:
        """Whether both change it in the same direction."""
        return self.world * self.model > 0


@dataclass(frozen=True)
class Measurements:
    """Everything. `poses` and `right` are by group: world, guided, held-out, plain.

    The group world is true pictures: `right` says there what each judge is worth, from all around,
    and `poses` what it sees of uncorrupted test pictures, at the world's rates.
    """

    psnr: float
    psnr_uncorrupted: float
    right: dict[str, dict[JudgeName, Right]]
    poses: dict[str, dict[JudgeName | Literal["truth"], Shares]]
    words: list[WordEffect]


def measure(prior: AbstractPrior, clip: ClipJudge, store: Store, sampler: Sampler) -> Measurements:
    """All measurements of a plan; what is drawn for it is kept, so it may be started again."""
    plan, test = store.plan, store.samples("test")
    renders = RenderJudge(plan.judge_azimuths, plan.judge_elevations_deg)
    judges: dict[JudgeName, Judge] = {"renders": renders, "clip": clip}
    sharp = torch.tensor([not words for words in test.labels.words])
    decibels = reconstruction(prior, test.pictures.float() / 255)
    right = {"world": judges_on_truth(judges, store.samples("judge-test"))}
    # Judges err about samples, so they are asked about true pictures too.
    true = test.pictures[sharp].float() / 255
    poses: dict[str, dict[JudgeName | Literal["truth"], Shares]] = {
        "world": {
            "truth": world_poses(store.seed),
            **{judge: pose_shares(ask(true).pose) for judge, ask in judges.items()},
        }
    }
    for name, asked, scale in groups(plan):
        prompts = [f"a {colour} {kind}" for kind, colour in asked]
        pictures = sampler.pictures(name, prompts, scale=scale)
        verdicts = {judge: ask(pictures) for judge, ask in judges.items()}
        kinds, colours = numbers(asked)
        right[name] = {
            judge: judged(verdict, kinds, colours) for judge, verdict in verdicts.items()
        }
        poses[name] = {judge: pose_shares(verdict.pose) for judge, verdict in verdicts.items()}
    return Measurements(
        psnr=float(decibels.mean()),
        psnr_uncorrupted=float(decibels[sharp].mean()),
        right=right,
        poses=poses,
        words=word_effects(sampler, test, plan.word_samples),
    )


def seen_combinations() -> list[Combination]:
    """Those of the model's own pictures."""
    every = [(kind, colour) for kind in KINDS for colour in COLOURS]
    return [pair for pair in every if pair not in HELD_OUT]


def groups(plan: Plan) -> list[tuple[str, list[Combination], float]]:
    """What is asked for: a name, kinds and colours, and the scale of classifier-free guidance."""
    seen = seen_combinations()
    return [
        ("guided", cycled(seen, plan.guided_samples), SAMPLING_SCALE),
        ("held-out", cycled(sorted(HELD_OUT), plan.held_out_samples), SAMPLING_SCALE),
        ("plain", cycled(seen, plan.plain_samples), 1.0),
    ]


def cycled(pairs: list[Combination], count: int) -> list[Combination]:
    """`count` of them, in turn."""
    return [pairs[place % len(pairs)] for place in range(count)]


def numbers(pairs: list[Combination]) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Indices into KINDS and COLOURS."""
    kinds = torch.tensor([KINDS.index(kind) for kind, _ in pairs])
    return kinds, torch.tensor([COLOURS.index(colour) for _, colour in pairs])


def reconstruction(prior: AbstractPrior, images: Images) -> PerSample:
    """Decibels of decode(encode(x)) for each picture."""
    with torch.no_grad():
        found = [
            statistics.psnr(prior.decode(prior.encode(some)).clamp(0, 1), some)
            for some in torch.split(images, 50)
        ]
    return torch.cat(found)


def judges_on_truth(judges: dict[JudgeName, Judge], test: WorldSamples) -> dict[JudgeName, Right]:
    """What the judges say of true pictures from all around, without corruptions."""
    rows = torch.tensor([row for row, words in enumerate(test.labels.words) if not words])
    pictures, labels = test.pictures[rows].float() / 255, test.labels
    kinds, colours, poses = labels.kind[rows], labels.colour[rows], labels.pose[rows]
    return {name: judged(ask(pictures), kinds, colours, poses) for name, ask in judges.items()}


def judged(verdict: Verdict, kinds: Tensor, colours: Tensor, poses: Tensor | None = None) -> Right:
    """Shares of pictures that were judged to be what they should be."""
    kind, colour = verdict.kind == kinds, verdict.colour == colours
    pose = None if poses is None else float((verdict.pose == poses).float().mean())
    both = (kind & colour).float().mean()
    return Right(float(kind.float().mean()), float(colour.float().mean()), float(both), pose)


def pose_shares(poses: Int[Tensor, " pictures"]) -> Shares:
    """The share of each of POSES."""
    return tuple((poses.bincount(minlength=len(POSES)) / len(poses)).tolist())


def world_poses(seed: int) -> Shares:
    """The same of the world itself."""
    generator = Generator().manual_seed(seed_for(seed, "world poses"))
    return pose_shares(pose_indices(sample_world_cameras(_POSE_DRAWS, generator).azimuth))


def word_effects(sampler: Sampler, test: WorldSamples, count: int) -> list[WordEffect]:
    """With each word less without it: from the same noise, and of the same true pictures."""
    prompts = [f"a {colour} {kind}" for kind, colour in cycled(seen_combinations(), count)]
    without = sampler.pictures("words", prompts, scale=SAMPLING_SCALE)
    rows = [row for row, words in enumerate(test.labels.words) if not words]
    true = test.pictures[rows].float() / 255
    generator = Generator().manual_seed(seed_for(sampler.seed, "word effects"))
    effects = []
    for word, statistic in WORDS.items():
        said = sampler.pictures(
            "words", [f"{prompt}, {word}" for prompt in prompts], scale=SAMPLING_SCALE
        )
        changed = corrupted(true, [(word,)] * len(true), generator)
        world = statistic(changed).mean() - statistic(true).mean()
        model = statistic(said).mean() - statistic(without).mean()
        effects.append(WordEffect(word, statistic.__name__, float(world), float(model)))
    return effects
