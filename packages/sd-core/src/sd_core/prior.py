"""Contract 2: the prior, the frozen model whose score moves the scene."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch
from sd_core.condition import Condition, Texts
from sd_core.estimator import AbstractNoiseEstimator, EstimatorOptions
from sd_core.noising import NoiseSchedule
from sd_core.shapes import Images, Latents, PerSample, Saliency, Timesteps
from sd_core.text_guidance import classifier_free_guidance, perpendicular_negatives


@dataclass(frozen=True)
class PriorContext:
    """What a prior's `build(config, context)` is given."""

    device: torch.device


class AbstractPrior(ABC):
    """A frozen diffusion model. Deliberately not an `nn.Module`: a method that holds a prior must
    not carry it into its own checkpoint.

    Set in `__init__`:
      schedule      x_t = α_t·x0 + σ_t·ε for t in 0 .. len(schedule) - 1
      latent_shape  (channels, height, width) of what is diffused
      device        where its tensors live
      image_encoder optional: a folder with a vision model that knows this prior's pictures better
                    than those trained on photographs do; for methods that look at pictures

    `encode`, `decode` and `predict_noise` are differentiable in their first argument and never
    switch gradients off by themselves; their parameters never require gradients.
    """

    schedule: NoiseSchedule
    latent_shape: tuple[int, int, int]
    device: torch.device
    image_encoder: str | None = None

    @abstractmethod
    def encode_text(self, prompts: Sequence[str], cameras: CameraBatch | None = None) -> Condition:
        """One condition row for each prompt. The empty text is the unconditional model.

        `cameras`, one for each prompt, is for priors that know several views; others ignore it.
        """

    @abstractmethod
    def encode(self, images: Images, *, generator: Generator | None = None) -> Latents:
        """Pictures in [0, 1] → clean latents x0. Without a generator: no randomness."""

    @abstractmethod
    def decode(self, latents: Latents) -> Images:
        """Clean latents → pictures in [0, 1], not clamped, so that the gradient survives."""

    @abstractmethod
    def predict_noise(self, noisy: Latents, t: Timesteps, condition: Condition) -> Latents:
        """ε(x_t, t, y), whatever the network itself predicts; in the dtype of `noisy`."""

    @abstractmethod
    def new_estimator(
        self, *, view_conditioned: bool, options: EstimatorOptions
    ) -> AbstractNoiseEstimator:
        """A learner of the score of what is rendered now, for methods that need one."""

    def predict_noises(
        self, noisy: Latents | Sequence[Latents], t: Timesteps, conditions: Sequence[Condition]
    ) -> tuple[Latents, ...]:
        """ε under several conditions in one batched call: of the same noisy latents, or of others
        for each condition."""
        count = len(conditions)
        each = [noisy] * count if isinstance(noisy, Tensor) else list(noisy)
        predicted = self.predict_noise(
            torch.cat(each), t.repeat(count), Condition.concatenate(conditions)
        )
        return predicted.chunk(count)

    def saliency(self, images: Images, prompt: str) -> Saliency | None:
        """Where each picture shows what the prompt names, by the model itself, in any unit. None
        from a prior that does not know."""
        return None

    def between(self, near: Condition, far: Condition, share: PerSample) -> Condition:
        """What lies between two texts, share·near + (1 - share)·far, in the prior's own terms."""
        return near.blended(far, share)

    def predict_guided(
        self, noisy: Latents, t: Timesteps, texts: Texts, *, scale: float
    ) -> Latents:
        """ε̂ = ε(negative) + s·(ε(text) - ε(negative)), in one call; at s = 1 ε(text) alone.

        With `texts.away` it is Perp-Neg's, `perpendicular_negatives`, of all of them in one call.
        """
        if scale == 1 and texts.away is None:  # the other half would count for nothing
            return self.predict_noise(noisy, t, texts.text)
        return self.predict_guided_and_text(noisy, t, texts, scale=scale)[0]

    def predict_guided_and_text(
        self, noisy: Latents, t: Timesteps, texts: Texts, *, scale: float
    ) -> tuple[Latents, Latents]:
        """(ε̂, ε(text)), from one call."""
        away = texts.away
        others = () if away is None else away.conditions
        without, told, *seen = self.predict_noises(noisy, t, [texts.negative, texts.text, *others])
        if away is None:
            return classifier_free_guidance(without, told, scale), told
        weights = away.weights.to(told)
        negatives = torch.stack(seen, dim=1)
        return perpendicular_negatives(without, told, negatives, weights, scale), told

    def identity(self) -> dict[str, str]:
        """What a run folder writes down to name the model: its id, revision, precision."""
        return {"class": type(self).__name__}
