"""The methods that are compared on the toybox: what `score-distill run` is told for each row."""

from collections.abc import Sequence

from _toys import MATCHING, NOISED

# Without classifier-free guidance, and with the renders themselves as the estimator: what a method
# does when nothing but its formula is in it.
RENDERS = ("--set", "prior.estimator.kind=renders")
EXACT = ("--set", "guidance.scale=1", *RENDERS)

ESD_1 = ("--guidance", "esd", "--set", "guidance.entropy_weight=1")
# All layers that a LoRA can adapt, as camera_knowledge.py has it.
EVERYWHERE = (
    *("to_q", "to_k", "to_v", "to_out.0"),
    *("conv1", "conv2", "time_emb_proj", "conv_shortcut"),
)

RANK_16 = (
    *("--set", f"prior.estimator.targets={list(EVERYWHERE)}", "--set", "prior.estimator.rank=16"),
)


def options(where: str, words: Sequence[str]) -> tuple[str, ...]:
    return tuple(told for word in words for told in ("--set", f"{where}.{word}"))


def classifier(where: str, words: Sequence[str]) -> tuple[str, ...]:
    """USD's classifier, with templates that are true views: the prior's own pictures of "back view"
    show the front."""
    return options(f"{where}.classifier", words)


FROM_4_TO_1 = ("entropy_weight=4", "entropy_weight_end=1", "entropy_weight_until=0.6")
# Ten times the usual, with RANK_16.
QUICK = "estimator.learning_rate=0.001"

IN_THE_MIX = "guidance.options.esd"


def mix(
    estimator: Sequence[str], words: Sequence[str], *, marginal: str = "prior", limit: str = "none"
) -> tuple[str, ...]:
    """USD's target with ESD's source, λ from 4 to 1, without classifier-free guidance."""
    return (
        *("--guidance", "mix", "--set", "guidance.noising=esd"),
        *("--set", "guidance.target=usd", "--set", "guidance.source=esd"),
        *(*estimator, "--set", "guidance.options.usd.scale=1"),
        *("--set", f"guidance.options.usd.marginal={marginal}"),
        *("--set", f"guidance.options.usd.limit={limit}"),
        *options(IN_THE_MIX, FROM_4_TO_1),
        *classifier("guidance.options.usd", words),
    )


# As examples/one_toy.toml has it: all sides at high t, and low t last.
HIGH_T_FIRST = (
    "timesteps.schedule=pieces",
    "timesteps.pieces=[[0, 0.5, 0.98], [0.64, 0.3, 0.75], [0.84, 0.02, 0.5]]",
)
WITH_A_LORA = (*RANK_16, *options(IN_THE_MIX, [QUICK]))
# The source of that mix alone.
ESD_4_TO_1 = (
    *("--guidance", "esd", *options("guidance", FROM_4_TO_1), "--set", "guidance.scale=1"),
    *(*RANK_16, *options("guidance", [QUICK])),
)

# examples/one_bear.toml.
ALL_SIDES = (
    *mix(WITH_A_LORA, MATCHING, marginal="running", limit="equal"),
    *options(IN_THE_MIX, HIGH_T_FIRST),
)

METHODS: dict[str, tuple[str, ...]] = {
    "sds": ("--guidance", "sds"),
    "vsd": ("--guidance", "vsd"),
    # VSD's formula with the estimator taught as in ESD's algorithm 1.
    "esd-0": ("--guidance", "esd", "--set", "guidance.entropy_weight=0"),
    "esd-0.25": ("--guidance", "esd", "--set", "guidance.entropy_weight=0.25"),
    "esd-0.5": ("--guidance", "esd", "--set", "guidance.entropy_weight=0.5"),
    "esd-1": ESD_1,
    # What could hide λ: how often the estimator learns without a camera, how much it can learn, and
    # how long.
    "esd-1-dropout-0.1": (*ESD_1, "--set", "guidance.estimator.camera_dropout=0.1"),
    "esd-1-dropout-1": (*ESD_1, "--set", "guidance.estimator.camera_dropout=1"),
    "esd-1-rank-16": (*ESD_1, *RANK_16, "--set", f"guidance.{QUICK}"),
    "esd-1-1200-steps": (*ESD_1, "--set", "steps=1200"),
    "vsd-1200-steps": ("--guidance", "vsd", "--set", "steps=1200"),
    "bridge": ("--guidance", "bridge"),
    "jsd": ("--guidance", "jsd"),
    "jsd-released": ("--guidance", "jsd", "--set", "guidance.preset=released"),
    # JSD's t and scale without its formula.
    "sds-as-jsd": (
        *("--guidance", "sds", "--set", "guidance.scale=13.5"),
        *("--set", "guidance.timesteps.schedule=linear-descent"),
    ),
    "vsd-exact": ("--guidance", "vsd", *EXACT),  # which is SDS at scale 1, to the bit
    "esd-0.25-exact": ("--guidance", "esd", "--set", "guidance.entropy_weight=0.25", *EXACT),
    "esd-0.5-exact": ("--guidance", "esd", "--set", "guidance.entropy_weight=0.5", *EXACT),
    "esd-1-exact": ("--guidance", "esd", "--set", "guidance.entropy_weight=1", *EXACT),
    "esd-4-to-1-exact": ("--guidance", "esd", *options("guidance", FROM_4_TO_1), *EXACT),
    "esd-4-to-1": ESD_4_TO_1,
    # The rectifier is as long as the rest, as in RecDreamer's code.
    "usd": (
        *("--guidance", "usd", *classifier("guidance", MATCHING)),
        *("--set", "guidance.limit=equal"),
    ),
    # The same steps, t, words and templates; the rectifier is never added.
    "usd-watching": (
        *("--guidance", "usd", *classifier("guidance", MATCHING)),
        *("--set", "guidance.starts_at=1"),
    ),
    # The paper's limit.
    "usd-at-most": ("--guidance", "usd", *classifier("guidance", MATCHING)),
    "usd-esd-4-to-1": mix(WITH_A_LORA, MATCHING),
    "usd-esd-high-t-first": ALL_SIDES,
    # As many views a step as examples/one_face.toml has.
    "usd-esd-high-t-first-12-views": (*ALL_SIDES, "--set", "stages.0.cameras.batch=12"),
    "usd-esd-high-t-first-prior": (
        *mix(WITH_A_LORA, MATCHING, limit="equal"),
        *options(IN_THE_MIX, HIGH_T_FIRST),
    ),
    # The same t, steps and LoRA without the rectifier, and USD alone with the same t.
    "esd-high-t-first": (*ESD_4_TO_1, *options("guidance", HIGH_T_FIRST)),
    "usd-high-t-first": (
        *("--guidance", "usd", *classifier("guidance", MATCHING)),
        *("--set", "guidance.limit=equal", *options("guidance", HIGH_T_FIRST)),
    ),
    "usd-esd-4-to-1-exact": mix(RENDERS, MATCHING),
    "usd-esd-4-to-1-exact-noised": mix(RENDERS, NOISED),
}
