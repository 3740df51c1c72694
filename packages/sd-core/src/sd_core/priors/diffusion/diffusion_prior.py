"""The prior that is a trained network: ε from whatever it predicts, in whatever precision it runs.

diffusers is not imported here: `stable_diffusion.build` loads the parts and puts them together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Generator, Tensor, nn

from sd_core.cameras import CameraBatch
from sd_core.condition import Condition
from sd_core.errors import ScoreDistillationError
from sd_core.estimator import AbstractNoiseEstimator, EstimatorOptions
from sd_core.noising import NoiseSchedule, draw
from sd_core.parameterisation import noise_from_flow, noise_from_velocity
from sd_core.prior import AbstractPrior
from sd_core.priors.diffusion.attention_map import attention_to_words
from sd_core.priors.diffusion.family import Family
from sd_core.priors.diffusion.half_gradient import differentiable_in_half
from sd_core.priors.diffusion.latent_codec import LatentCodec
from sd_core.priors.diffusion.lora import LoraEstimator, LoraOptions
from sd_core.priors.diffusion.scheduler_config import PredictionType
from sd_core.priors.diffusion.text_cache import TextCache
from sd_core.priors.diffusion.text_windows import aligned
from sd_core.priors.empirical_estimator import EmpiricalEstimator
from sd_core.shapes import Images, Latents, PerSample, Saliency, Timesteps

# Of which noise the attention is read: the released code of RecDreamer's.
_NEARLY_CLEAN = 10


@dataclass(frozen=True, eq=False)
class PriorParts:
    """What a prior is put together from.

    network, family, schedule, prediction_type   the frozen model and how to ask it
    latent_shape, text, load_codec               its latents, texts and VAE (loaded on first use)
    sample_posterior, estimator                  options
    load_other                                   another model's prior, loaded the same way
    names                                        what `identity()` gives
    """

    network: nn.Module
    family: Family
    schedule: NoiseSchedule
    prediction_type: PredictionType
    latent_shape: tuple[int, int, int]
    text: TextCache
    load_codec: Callable[[], LatentCodec]
    sample_posterior: bool
    estimator: LoraOptions
    load_other: Callable[[str], "StableDiffusionPrior"]
    names: Mapping[str, str]


class StableDiffusionPrior(AbstractPrior):
    """ε(x_t, t, y) of a frozen latent diffusion model.

    Latents, noise and pictures are in the caller's dtype, in training float32; the network and the
    VAE compute in theirs. Pictures that already have the shape of latents are taken as latents:
    a scene may live there.
    """

    def __init__(self, parts: PriorParts) -> None:
        self.schedule = parts.schedule
        self.latent_shape = parts.latent_shape
        parameter = next(parts.network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.network = parts.network
        self.prediction_type: str = parts.prediction_type
        self.text = parts.text
        self._parts = parts

    @cached_property
    def codec(self) -> LatentCodec:
        """The VAE; loaded when it is first asked for."""
        return self._parts.load_codec()

    def encode_text(self, prompts: Sequence[str], cameras: CameraBatch | None = None) -> Condition:
        """Texts of different lengths in one batch are repeated to a common one, exactly."""
        return Condition(tuple(prompts), self.text.encode(prompts))

    def encode(self, images: Images, *, generator: Generator | None = None) -> Latents:
        if images.shape[1:] == self.latent_shape:
            return images
        if images.shape[1] != 3:
            raise ScoreDistillationError(
                f"the scene gave pictures of shape {tuple(images.shape[1:])}, expected 3 channels, "
                f"or latents of shape {self.latent_shape}. Choose another renderer, or its size."
            )
        return self.codec.encode(images, sample=generator if self._parts.sample_posterior else None)

    def decode(self, latents: Latents) -> Images:
        return self.codec.decode(latents)

    def predict_noise(self, noisy: Latents, t: Timesteps, condition: Condition) -> Latents:
        def noise_of(noisy: Tensor) -> Tensor:
            return self.noise_from_output(self.predict_output(noisy, t, condition), noisy, t)

        return differentiable_in_half(noise_of, noisy, self.dtype)

    def predict_noises(
        self, noisy: Latents | Sequence[Latents], t: Timesteps, conditions: Sequence[Condition]
    ) -> tuple[Latents, ...]:
        rows = aligned([condition.tensors for condition in conditions])
        alike = [replace(c, tensors=row) for c, row in zip(conditions, rows, strict=True)]
        return super().predict_noises(noisy, t, alike)

    def between(self, near: Condition, far: Condition, share: PerSample) -> Condition:
        one, other = aligned([near.tensors, far.tensors])
        return super().between(replace(near, tensors=one), replace(far, tensors=other), share)

    def predict_output(self, noisy: Latents, t: Timesteps, condition: Condition) -> Tensor:
        """What the network itself says at x_t, ε, v or a flow, in its own dtype."""
        tensors = {
            # Not the sizes of SDXL: bfloat16 has no 1023.
            name: tensor.to(self.dtype) if name != "sizes" else tensor
            for name, tensor in condition.tensors.items()
        }
        return self._parts.family.predict(self.network, noisy.to(self.dtype), t, tensors)

    def noise_from_output(self, output: Tensor, noisy: Latents, t: Timesteps) -> Latents:
        """ε from what the network said, in the dtype of `noisy`."""
        output = output.to(noisy.dtype)
        if self.prediction_type == "epsilon":
            return output
        alpha, sigma = self.schedule.alpha(t, noisy), self.schedule.sigma(t, noisy)
        if self.prediction_type == "v_prediction":
            return noise_from_velocity(noisy, output, alpha=alpha, sigma=sigma)
        return noise_from_flow(noisy, output, alpha=alpha, sigma=sigma)

    @torch.no_grad()
    def saliency(self, images: Images, prompt: str) -> Saliency:
        """Where its attention goes to the prompt's words, at almost no noise."""
        latents = self.encode(images)
        t = torch.full((len(latents),), _NEARLY_CLEAN, device=latents.device)
        noise = Generator(latents.device).manual_seed(0)
        noisy = draw(self.schedule, latents, t, noise).noisy
        condition = self.encode_text([prompt] * len(latents))
        return attention_to_words(
            self.network, lambda: self.predict_output(noisy, t, condition), latents
        )

    def new_estimator(
        self, *, view_conditioned: bool, options: EstimatorOptions
    ) -> AbstractNoiseEstimator:
        told = self._parts.estimator
        learner: AbstractNoiseEstimator
        if told.kind == "renders":
            learner = EmpiricalEstimator(
                schedule=self.schedule,
                latent_shape=self.latent_shape,
                memory=told.memory,
                view_conditioned=view_conditioned,
            )
        else:
            learner = LoraEstimator(self, told, options, view_conditioned=view_conditioned)
        return learner.to(self.device)

    def other_model(self, model: str) -> "StableDiffusionPrior":
        """Another model, with the same options; for an estimator that adapts a second one."""
        return self._parts.load_other(model)

    def identity(self) -> dict[str, str]:
        return {**super().identity(), **self._parts.names}
