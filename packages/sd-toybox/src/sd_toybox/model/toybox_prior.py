"""The toybox as a prior: the ordinary Stable Diffusion prior, which reads the world's grammar."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from torch import Generator

from sd_core.cameras import CameraBatch
from sd_core.condition import Condition
from sd_core.config import Options, option
from sd_core.estimator import AbstractNoiseEstimator, EstimatorOptions
from sd_core.prior import AbstractPrior, PriorContext
from sd_core.priors.diffusion.latent_codec import Posterior
from sd_core.priors.diffusion.lora import LoraOptions
from sd_core.priors.diffusion.stable_diffusion import Precision, StableDiffusionOptions
from sd_core.priors.diffusion.stable_diffusion import build as build_stable_diffusion
from sd_core.shapes import Images, Latents, PerSample, Saliency, Timesteps
from sd_toybox.model.folders import CLIP, find_folder
from sd_toybox.world.captions import parse_caption


class ToyboxOptions(Options):
    """Which weights, and how they are run."""

    folder: str | None = option(
        None, "Another folder that `python -m sd_toybox.train` made.", min_length=1
    )
    dtype: Precision = option("auto", "Precision of the networks: fp16 on CUDA, else fp32.")
    encode: Posterior = option(
        "mean", "Latents of a picture: the mean of the VAE's posterior, or a sample of it."
    )
    gradient_checkpointing: bool = option(
        False, "Less memory, more time, for methods that differentiate through the network (USD)."
    )
    compile: bool = option(False, "torch.compile of the network: a slow start, then faster.")
    estimator: LoraOptions = option(LoraOptions(), "The learner of the score of the renders.")


class ToyboxPrior(AbstractPrior):
    """A Stable Diffusion prior, `inner`, that refuses what the world's captions never say.

    Stable Diffusion reads any text and makes something of it. This model has seen 41 words, and
    what it makes of another would look like a fault of the method under study.
    """

    def __init__(self, inner: AbstractPrior, *, weights: str, image_encoder: str) -> None:
        self.schedule = inner.schedule
        self.latent_shape = inner.latent_shape
        self.device = inner.device
        self.inner = inner
        self.image_encoder = image_encoder
        self._weights = weights

    def encode_text(self, prompts: Sequence[str], cameras: CameraBatch | None = None) -> Condition:
        """Capitals and blanks matter neither to the grammar nor to the tokenizer."""
        for prompt in prompts:
            parse_caption(prompt)
        return self.inner.encode_text(prompts, cameras)

    def encode(self, images: Images, *, generator: Generator | None = None) -> Latents:
        return self.inner.encode(images, generator=generator)

    def decode(self, latents: Latents) -> Images:
        return self.inner.decode(latents)

    def predict_noise(self, noisy: Latents, t: Timesteps, condition: Condition) -> Latents:
        return self.inner.predict_noise(noisy, t, condition)

    def predict_noises(
        self, noisy: Latents | Sequence[Latents], t: Timesteps, conditions: Sequence[Condition]
    ) -> tuple[Latents, ...]:
        return self.inner.predict_noises(noisy, t, conditions)

    def between(self, near: Condition, far: Condition, share: PerSample) -> Condition:
        return self.inner.between(near, far, share)

    def saliency(self, images: Images, prompt: str) -> Saliency | None:
        return self.inner.saliency(images, prompt)

    def new_estimator(
        self, *, view_conditioned: bool, options: EstimatorOptions
    ) -> AbstractNoiseEstimator:
        return self.inner.new_estimator(view_conditioned=view_conditioned, options=options)

    def identity(self) -> dict[str, str]:
        """By its weights, not by its folder: the same package lies elsewhere on each machine."""
        return {
            **self.inner.identity(),
            **super().identity(),
            "model": "toybox",
            "weights": self._weights,
        }


def build(config: ToyboxOptions, context: PriorContext) -> ToyboxPrior:
    """The entry's `build`."""
    folder = find_folder(config.folder)
    options = StableDiffusionOptions(
        model=str(folder),
        dtype=config.dtype,
        encode=config.encode,
        gradient_checkpointing=config.gradient_checkpointing,
        compile=config.compile,
        estimator=config.estimator,
    )
    return ToyboxPrior(
        build_stable_diffusion(options, context),
        weights=fingerprint(folder),
        image_encoder=str(folder / CLIP),
    )


def fingerprint(folder: Path) -> str:
    """The first 16 digits of the SHA-256 of the pipeline's weights, one file after the other."""
    digest = hashlib.sha256()
    for part in ("text_encoder", "unet", "vae"):
        for path in sorted((folder / part).glob("*.safetensors")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
