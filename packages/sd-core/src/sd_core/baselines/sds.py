"""Score Distillation Sampling (DreamFusion)."""

from torch import Generator

from sd_core.cameras import CameraBatch
from sd_core.config import option
from sd_core.noising import Noised
from sd_core.residual import Prediction, ResidualGuidance, ResidualOptions
from sd_core.step import Step


class SDSOptions(ResidualOptions):
    """DreamFusion's values for Stable Diffusion."""

    scale: float = option(
        100.0,
        "Classifier-free guidance of the prior: uncond + s·(text - uncond).",
        symbol="s",
        ge=0,
    )


class SDS(ResidualGuidance):
    """g = w(t)·(ε_p(x_t, y) - ε), with the very ε that made x_t.

    At guidance scale 1 its expectation is w(t)·(ε_p(x_t) - E[ε | x_t]) over the noise: it moves each
    view to a mode of the prior's density smoothed over t.
    """

    def source(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        return Prediction(noised.noise)
