"""Variational Score Distillation (ProlificDreamer)."""

from collections.abc import Mapping

import torch
from torch import Generator

from sd_core.cameras import CameraBatch
from sd_core.condition import Condition
from sd_core.config import option
from sd_core.estimator import EstimatorOptions
from sd_core.guidance import GuidanceContext
from sd_core.noising import Noised
from sd_core.residual import ObservedResidual, Prediction, ResidualGuidance, ResidualOptions
from sd_core.step import Step


class VSDOptions(ResidualOptions):
    """ProlificDreamer's values."""

    estimator: EstimatorOptions = option(EstimatorOptions(), "How the estimator learns.")


class VSD(ResidualGuidance):
    """g = w(t)·(ε_p(x_t, y) - ε_φ(x_t, c, y)); zero where the renders are the prior's samples.

    ε_φ is the score of what is rendered now, seen from camera c. It is told the prompt without its
    view words: the camera says where from.
    """

    def __init__(self, config: VSDOptions, context: GuidanceContext) -> None:
        super().__init__(config, context)
        self.estimator = context.prior.new_estimator(
            view_conditioned=True, options=config.estimator
        )

    def source(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        with torch.enable_grad():  # the same pass trains the estimator
            predicted = self.estimator.predict_noise(noised, self.plain(cameras), cameras)
        return Prediction(predicted, observed={"predicted": predicted})

    def learn_source(
        self,
        seen: ObservedResidual,
        cameras: CameraBatch,
        *,
        step: Step,
        generator: Generator,
    ) -> Mapping[str, float]:
        return self.estimator.fit(
            seen.noised,
            self.plain(cameras),
            cameras,
            predicted=seen.source.get("predicted"),
            shown=seen.source.get("shown"),
            step=step,
            generator=generator,
        )

    def give_up_source(self) -> None:
        del self.estimator

    def plain(self, cameras: CameraBatch) -> Condition:
        """The prompt without its view words, once for each camera."""
        return self.prior.encode_text([self.prompt.text] * len(cameras))
