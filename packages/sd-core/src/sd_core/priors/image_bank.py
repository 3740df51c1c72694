"""The exact prior of a finite set of pictures."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import field_validator
from torch import Generator, Tensor

from sd_core.captions import CAPTIONS, read_captions
from sd_core.condition import Condition
from sd_core.config import Options, option
from sd_core.errors import ConfigError
from sd_core.noising import NoiseSchedule
from sd_core.picture_folder import read_picture
from sd_core.prior import PriorContext
from sd_core.priors.bank import bank_log_likelihood, bank_noise
from sd_core.priors.exact import ExactPrior
from sd_core.shapes import Images, Latents, Timesteps


class ImageBankOptions(Options):
    """Where the pictures are."""

    folder: str = option(
        ...,
        "Folder of equally large pictures and a captions.json that maps each file name to a "
        "prompt or a list of them.",
        min_length=1,
    )
    memory: int = option(
        256, "Renders that the estimator of the rendered distribution keeps.", ge=0
    )
    contrast: float = option(
        1.0,
        "Pictures are diffused in [-contrast, contrast]. The lower, the more of t hides which "
        "picture it was.",
        gt=0.0,
    )

    @field_validator("folder")
    @classmethod
    def _the_same_from_everywhere(cls, folder: str) -> str:
        # A run is resumed from any folder.
        return str(Path(folder).expanduser().absolute())


def build(config: ImageBankOptions, context: PriorContext) -> "ImageBankPrior":
    """The entry's `build`: reads the folder."""
    images, prompts = _read_folder(Path(config.folder))
    return ImageBankPrior(
        images.to(context.device), prompts, memory=config.memory, contrast=config.contrast
    )


class ImageBankPrior(ExactPrior):
    """p(x0) = Σᵢ wᵢ·δ(x0 - xᵢ): the perfectly trained model that has memorised its pictures.

    Pictures in [0, 1] are diffused in [-b, b]. Pixel diffusion models take b = 1; a smaller b hides
    pictures at a lower t (Chen 2023, arXiv:2301.10972, 2.2). It matters: p_t(x_t) tells two members
    apart where (α/σ)²·|xᵢ - xⱼ|² is above 1, which for large pictures at b = 1 is everywhere.
    """

    def __init__(
        self,
        images: Images,
        prompts: Sequence[Sequence[str]] = (),
        *,
        weights: Float[Tensor, " members"] | None = None,
        schedule: NoiseSchedule | None = None,
        memory: int = 256,
        contrast: float = 1.0,
    ) -> None:
        channels, height, width = images.shape[1:]
        super().__init__(
            weights=images.new_ones(len(images)) if weights is None else weights,
            prompts=prompts,
            latent_shape=(channels, height, width),
            schedule=schedule or NoiseSchedule.scaled_linear(),
            memory=memory,
        )
        self._contrast = contrast
        self.bank = self.encode(images)

    def identity(self) -> dict[str, str]:
        digest = hashlib.sha256(self.bank.float().cpu().numpy().tobytes()).hexdigest()
        return {**super().identity(), "pictures": str(len(self.bank)), "sha256": digest[:16]}

    def encode(self, images: Images, *, generator: Generator | None = None) -> Latents:
        return self._contrast * (2 * images - 1)

    def decode(self, latents: Latents) -> Images:
        return (latents / self._contrast + 1) / 2

    def log_joint(
        self, noisy: Latents, t: Timesteps, condition: Condition
    ) -> Float[Tensor, "batch members"]:
        return condition.tensors["log_weights"].to(noisy.dtype) + bank_log_likelihood(
            noisy,
            self.bank.to(noisy.dtype),
            self.schedule.alpha(t, noisy),
            self.schedule.sigma(t, noisy),
        )

    def predict_noise(self, noisy: Latents, t: Timesteps, condition: Condition) -> Latents:
        return bank_noise(
            noisy,
            self.bank.to(noisy.dtype),
            condition.tensors["log_weights"].to(noisy.dtype),
            self.schedule.alpha(t, noisy),
            self.schedule.sigma(t, noisy),
        )

    def sample(self, count: int, prompt: str = "", *, generator: Generator) -> Latents:
        return self.bank[self._draw_members(count, prompt, generator)]


def _read_folder(folder: Path) -> tuple[Images, list[tuple[str, ...]]]:
    captions = read_captions(folder)
    if captions is None:
        raise ConfigError(
            f"prior.folder is '{folder}', but it has no {CAPTIONS}. "
            'Add one that maps each picture to its prompts: {"001.png": ["a red bear"]}.'
        )
    pictures = [read_picture(folder / name) for name in captions]
    sizes = sorted({picture.shape for picture in pictures})
    if len(sizes) != 1:
        raise ConfigError(
            f"the pictures in '{folder}' have {len(sizes)} different sizes. "
            "Give at least one picture, and all of one size."
        )
    return torch.stack(pictures), list(captions.values())
