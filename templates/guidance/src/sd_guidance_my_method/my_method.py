"""My method: what it changes about score distillation, and why."""

from torch import Generator

from sd_core.cameras import CameraBatch
from sd_core.config import option
from sd_core.guidance import GuidanceContext
from sd_core.noising import Noised
from sd_core.residual import Prediction, ResidualGuidance, ResidualOptions
from sd_core.shapes import Latents
from sd_core.step import Step


class MyMethodOptions(ResidualOptions):
    """What users can set, besides the options of all residual methods."""

    strength: float = option(
        0.9, "Share of the drawn noise that is subtracted; 1 is SDS.", symbol="λ", ge=0, le=1
    )


def my_method_source(noise: Latents, strength: float) -> Latents:
    """λ·ε, so that g = w(t)·(ε_p(x_t, y) - λ·ε). λ = 1 is SDS."""
    return strength * noise


class MyMethod(ResidualGuidance):
    """g = w(t)·(ε_p(x_t, y) - λ·ε); the template has the noising, the target and the weight."""

    def __init__(self, config: MyMethodOptions, context: GuidanceContext) -> None:
        super().__init__(config, context)
        self.strength = config.strength

    def source(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        return Prediction(my_method_source(noised.noise, self.strength))
