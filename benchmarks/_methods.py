"""The methods that are compared on the toybox: what `score-distill run` is told for each row."""

from collections.abc import Sequence

from _toys import MATCHING, NOISED

# Without classifier-free guidance, and with the renders themselves as the estimator: what a method
# does when nothing but its formula is in it.
EXACT = ("--set", "guidance.scale=1", "--set", "prior.estimator.kind=renders")

ESD_1 = ("--guidance", "esd", "--set", "guidance.entropy_weight=1")
# All layers that a LoRA can adapt, as camera_knowledge.py has it.
EVERYWHERE = (
    *("to_q", "to_k", "to_v", "to_out.0"),
    *("conv1", "conv2", "time_emb_proj", "conv_shortcut"),
)


def classifier(where: str, words: Sequence[str]) -> tuple[str, ...]:
    """USD's classifier, with templates that are true views: the prior's own pictures of "back view"
    show the front."""
    each = [f"{where}.classifier.{word}" for word in words]
    return tuple(told for word in each for told in ("--set", word))


# USD's target with ESD's source, λ from 4 to 1, the renders themselves as the estimator.
MIX = (
    *("--guidance", "mix", "--set", "guidance.noising=esd"),
    *("--set", "guidance.target=usd", "--set", "guidance.source=esd"),
    *("--set", "prior.estimator.kind=renders", "--set", "guidance.options.usd.scale=1"),
    *("--set", "guidance.options.usd.marginal=prior"),
    *("--set", "guidance.options.usd.limit=none"),
    *("--set", "guidance.options.esd.entropy_weight=4"),
    *("--set", "guidance.options.esd.entropy_weight_end=1"),
    *("--set", "guidance.options.esd.entropy_weight_until=0.6"),
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
    "esd-1-rank-16": (
        *ESD_1,
        *("--set", f"prior.estimator.targets={list(EVERYWHERE)}"),
        *("--set", "prior.estimator.rank=16", "--set", "guidance.estimator.learning_rate=0.001"),
    ),
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
    "esd-4-to-1-exact": (
        *("--guidance", "esd", "--set", "guidance.entropy_weight=4"),
        *("--set", "guidance.entropy_weight_end=1", "--set", "guidance.entropy_weight_until=0.6"),
        *EXACT,
    ),
    # The rectifier is as long as the rest, as in RecDreamer's code.
    "usd": (
        *("--guidance", "usd", *classifier("guidance", MATCHING)),
        *("--set", "guidance.limit=equal"),
    ),
    "usd-esd-4-to-1-exact": (*MIX, *classifier("guidance.options.usd", MATCHING)),
    "usd-esd-4-to-1-exact-noised": (*MIX, *classifier("guidance.options.usd", NOISED)),
}
