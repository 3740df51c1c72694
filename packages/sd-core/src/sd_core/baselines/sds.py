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

    ε has mean 0, so in expectation g = w(t)·E[ε_p(x_t, y)]: each view goes to a mode of the prior's
    density, smoothed over t, whatever the other views do.
    """

    def source(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        return Prediction(noised.noise)
