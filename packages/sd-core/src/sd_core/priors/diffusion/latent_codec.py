"""Between pictures and latents: the VAE with its scale and shift."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional

from sd_core.errors import ScoreDistillationError
from sd_core.priors.diffusion.half_gradient import differentiable_in_half
from sd_core.shapes import Images, Latents

# With sides of their own: in one signature, equal names are equal sizes, and latents are smaller.
Posterior = Literal["mean", "sample"]


class LatentCodec:
    """x0 = (z − shift)·scale with z ~ N(μ, s²) = vae(2·pictures − 1), and back.

    The factor makes latents of about unit variance, which is what the network was trained on.
    """

    def __init__(
        self, vae: Any, config: Mapping[str, Any], *, picture_size: tuple[int, int]
    ) -> None:
        self.vae = vae  # diffusers' AutoencoderKL
        self.picture_size = picture_size
        # Old files have neither number: their factor is that of Stable Diffusion 1.
        self.scale = float(config.get("scaling_factor") or 0.18215)
        self.shift = float(config.get("shift_factor") or 0.0)

    @property
    def dtype(self) -> torch.dtype:
        """What the VAE computes in."""
        dtype: torch.dtype = next(self.vae.parameters()).dtype
        return dtype

    def encode(self, images: Images, *, sample: Generator | None) -> Latents:
        """The posterior's mean, or one sample of it, drawn from the generator `sample`."""
        if images.shape[-2:] != self.picture_size:
            images = functional.interpolate(
                images, self.picture_size, mode="bilinear", align_corners=False
            )

        def posterior_of(pictures: Tensor) -> Tensor:
            posterior = self.vae.encode((2 * pictures - 1).to(self.dtype)).latent_dist
            raw: Tensor = posterior.mean.to(pictures.dtype)
            if sample is not None:
                spread = posterior.std.to(raw.dtype)
                noise = torch.randn(raw.shape, generator=sample, device=raw.device, dtype=raw.dtype)
                raw = raw + spread * noise
            return raw

        raw = differentiable_in_half(posterior_of, images, self.dtype)
        self._check(raw, images)
        return (raw - self.shift) * self.scale

    def decode(self, latents: Latents) -> Images:
        """pictures = (vae(x0/scale + shift) + 1)/2, not clamped."""

        def pictures_of(raw: Tensor) -> Tensor:
            pictures: Tensor = self.vae.decode(raw.to(self.dtype)).sample.to(raw.dtype)
            return pictures

        raw = latents / self.scale + self.shift
        return (differentiable_in_half(pictures_of, raw, self.dtype) + 1) / 2

    def _check(self, raw: Latents, images: Images) -> None:
        if bool(raw.isfinite().all()):
            return
        if not bool(images.isfinite().all()):  # then the VAE is not to blame, and the loop says so
            return
        precision = str(self.dtype).removeprefix("torch.")
        remedy = (
            "Its weights are not finite: fetch the model again."
            if self.dtype == torch.float32
            else 'In that precision its activations can overflow: set prior.vae_dtype = "fp32".'
        )
        raise ScoreDistillationError(
            f"the VAE, in {precision}, gave latents that are not finite. {remedy}"
        )


def latent_shape_of(
    config: Mapping[str, Any], picture_size: tuple[int, int]
) -> tuple[int, int, int]:
    """(channels, height, width) of what the VAE makes of pictures of this size."""
    factor = downscaling_of(config)
    height, width = picture_size
    return int(config.get("latent_channels", 4)), height // factor, width // factor


def downscaling_of(config: Mapping[str, Any]) -> int:
    """How many picture elements one latent covers in each direction: every level but one halves."""
    levels: int = len(config["block_out_channels"])
    return 1 << (levels - 1)
