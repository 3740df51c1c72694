"""Entropic Score Distillation: VSD whose estimator is asked without the camera, too."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Generator

from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.cameras import CameraBatch
from sd_core.config import option
from sd_core.estimator import EstimatorOptions
from sd_core.noising import Noised
from sd_core.presets import PresetOptions
from sd_core.residual import Prediction
from sd_core.shapes import Latents
from sd_core.step import Step


class ESDOptions(PresetOptions, VSDOptions):
    """The paper's values. `released`: what its instructions for threestudio compute."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "released": {
            "estimator": {"camera_dropout": 0.1, "shared_noise": False},
            "timesteps": {"schedule": "hard-switch"},
        }
    }

    preset: Literal["paper", "released"] = option("paper", "Whose values to begin with.")
    entropy_weight: float = option(
        0.5,
        "Share of the camera-free score. 0 is VSD; more keeps the views further apart and blurs "
        "them.",
        symbol="λ",
        ge=0,
    )
    entropy_weight_end: float | None = option(
        None, "If given, λ goes there in a straight line.", ge=0
    )
    entropy_weight_until: float = option(
        1.0, "When λ arrives there, as a fraction of the steps.", gt=0, le=1
    )
    estimator: EstimatorOptions = option(
        EstimatorOptions(camera_dropout=0.5, shared_noise=True),
        "How the estimator learns, by default as in algorithm 1: at the step's own t and noise, "
        "half of the samples without their camera.",
    )

    @model_validator(mode="after")
    def _all_that_is_told_counts(self) -> "ESDOptions":
        if self.entropy_weight_end is None and self.is_changed("entropy_weight_until"):
            raise ValueError(
                f"entropy_weight_until is {self.entropy_weight_until}, but λ stays where it is. "
                "Say where it goes as entropy_weight_end, or leave it out."
            )
        return self


def esd_source(camera_free: Latents, at_camera: Latents, entropy_weight: float) -> Latents:
    """λ·ε_φ(x_t, y) + (1 - λ)·ε_φ(x_t, c, y), of eq. 9. λ may exceed 1."""
    return entropy_weight * camera_free + (1 - entropy_weight) * at_camera


def entropy_weight_at(config: ESDOptions, step: Step) -> float:
    """λ at this step: λ_0 + min(1, i/(f·n))·(λ_1 - λ_0) at step i of n, with f the arrival."""
    begin, end = config.entropy_weight, config.entropy_weight_end
    if end is None:
        return begin
    return begin + min(1.0, step.fraction / config.entropy_weight_until) * (end - begin)


class ESD(VSD):
    """g = w(t)·(ε_p(x_t, y) - λ·ε_φ(x_t, y) - (1 - λ)·ε_φ(x_t, c, y)), eq. 6 and 9.

    The first estimate is told no camera: its score is that of all views together, and moving
    against it spreads them. λ = 0 is VSD to the bit; λ = 1 leaves each view to its neighbours, and
    is then at rest where the views together are distributed as the prior's pictures.
    """

    config: ESDOptions

    def source(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        entropy_weight = entropy_weight_at(self.config, step)
        if entropy_weight == 0:  # one score, whose pass also trains the estimator
            return super().source(noised, cameras, step=step, generator=generator)
        with torch.enable_grad():  # half of the pair may also train the estimator
            pair = self.estimator.predict_noise_pair(
                noised, self.plain(cameras), cameras, generator=generator
            )
        source = esd_source(pair.camera_free, pair.at_camera, entropy_weight)
        return Prediction(source, pair.observed, {"entropy_weight": entropy_weight})
