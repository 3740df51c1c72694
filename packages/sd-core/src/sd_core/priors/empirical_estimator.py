"""The exact estimator of what a scene renders: nothing is trained, the renders are remembered."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch
from sd_core.condition import Condition
from sd_core.estimator import AbstractNoiseEstimator
from sd_core.noising import Noised, NoiseSchedule
from sd_core.priors.bank import bank_noise
from sd_core.shapes import Latents
from sd_core.step import Step


class EmpiricalEstimator(AbstractNoiseEstimator):
    """The score of the renders themselves, exactly.

    At a camera, a deterministic scene renders one picture x0, so that q(x_t | c) = N(α·x0, σ²I)
    and ε_q is the drawn ε. Without a camera, q is the mixture of the renders of this batch and of
    the last `memory` ones, which lag behind the scene by as many steps as it took to make them.
    """

    images: Tensor
    filled: Tensor

    def __init__(
        self,
        *,
        schedule: NoiseSchedule,
        latent_shape: tuple[int, int, int],
        memory: int,
        view_conditioned: bool,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.view_conditioned = view_conditioned
        self.register_buffer("images", torch.zeros(memory, *latent_shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def predict_noise(
        self, noised: Noised, condition: Condition, cameras: CameraBatch | None
    ) -> Latents:
        if cameras is not None and self.view_conditioned:
            return noised.noise
        bank = torch.cat([noised.clean, self.images[: int(self.filled)].to(noised.clean)])
        uniform = bank.new_zeros(len(noised), len(bank))
        return bank_noise(
            noised.noisy,
            bank,
            uniform,
            self.schedule.alpha(noised.t, noised.noisy),
            self.schedule.sigma(noised.t, noised.noisy),
        )

    def fit(
        self,
        noised: Noised,
        condition: Condition,
        cameras: CameraBatch,
        *,
        predicted: Latents | None,
        shown: Bool[Tensor, " batch"] | None = None,
        step: Step,
        generator: Generator,
    ) -> Mapping[str, float]:
        """Remember the newest renders, first in the buffer; the oldest fall out."""
        size = len(self.images)
        newest = torch.cat([noised.clean.to(self.images), self.images])[:size]
        self.images.copy_(newest)
        self.filled.fill_(min(size, int(self.filled) + len(noised)))
        return {}
