"""The VAE: pictures of 64² to latents of 16², and what makes the latents fit for diffusion."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from safetensors.torch import load_file
from safetensors.torch import save as tensors_to_bytes
from torch import Generator, Tensor, nn

from sd_core.atomic import write_bytes
from sd_core.shapes import Images, Latents
from sd_toybox.model.networks import NetworkSizes, initialised_from, new_vae
from sd_toybox.train.plan import (
    CROP,
    CROPPED_SHARE,
    EDGE_WEIGHT,
    KL_WEIGHT,
    LATENT_STD,
    SQUARE_WEIGHT,
    Phase,
    seed_for,
)
from sd_toybox.train.progress import Progress
from sd_toybox.train.task import Rows, Scalar, Task
from sd_toybox.world.samples import Pictures

Squares = UInt8[Tensor, "samples 3 side side"]

_ENCODED_AT_ONCE = 100


class VaeTask(Task):
    """Squares of the pictures at first, and at the end pictures as a whole, half as many.

    L = E|x̂ - x| + w_e·(E|∂_i x̂ - ∂_i x| + E|∂_j x̂ - ∂_j x|) + w_s·E(x̂ - x)² + w_k·E KL.

    x in [-1, 1], x̂ = decode(μ + s·ε), KL = (μ² + s² - 1 - ln s²)/2 for each latent number. No
    picture is mirrored: the two sides of a toy differ, and the captions of the world know it.
    """

    name = "vae"

    def __init__(self, pictures: Pictures, phase: Phase, sizes: NetworkSizes, seed: int) -> None:
        self.phase = phase
        self.samples = len(pictures)
        self._pictures = pictures
        with initialised_from(seed_for(seed, self.name, "weights")):
            self.vae: Any = new_vae(sizes)
        self.networks = nn.ModuleDict({"vae": self.vae})

    def losses(self, step: int, rows: Rows, generator: Generator) -> dict[str, Scalar]:
        if step < CROPPED_SHARE * self.phase.steps:
            pictures = signed(crops(self._pictures[rows], CROP, generator))
        else:
            pictures = signed(self._pictures[rows[: len(rows) // 2]])
        posterior = self.vae.encode(pictures).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        error = self.vae.decode(posterior.mean + posterior.std * noise).sample - pictures
        square, kl = error.square().mean(), posterior.kl().mean() / posterior.mean[0].numel()
        loss = error.abs().mean() + EDGE_WEIGHT * edges(error) + SQUARE_WEIGHT * square
        return {"loss": loss + KL_WEIGHT * kl, "square": square, "kl": kl}


def crops(pictures: Pictures, side: int, generator: Generator) -> Squares:
    """A square of each picture, anywhere in it."""
    ends = torch.tensor(pictures.shape[-2:]) - side + 1
    corners = (torch.rand(len(pictures), 2, generator=generator) * ends).long().tolist()
    return torch.stack(
        [
            picture[:, top : top + side, left : left + side]
            for picture, (top, left) in zip(pictures, corners, strict=True)
        ]
    )


def edges(images: Images) -> Scalar:
    """E|∂_i x| + E|∂_j x|, differences of neighbours: blurred edges cost what is lost of them."""
    down = images[..., 1:, :] - images[..., :-1, :]
    along = images[..., :, 1:] - images[..., :, :-1]
    return down.abs().mean() + along.abs().mean()


def signed(pictures: Pictures) -> Images:
    """8 bits → [-1, 1]."""
    return pictures.float() / 127.5 - 1


def rounded(network: Any) -> Any:
    """The weights that are shipped, in 16 bits; what follows learns from these."""
    return network.half().float().eval().requires_grad_(False)


def raw_latents(vae: Any, pictures: Pictures, path: Path, write: Callable[[str], None]) -> Latents:
    """The posterior's means, before shift and scale; kept in `path`."""
    if path.is_file():
        return load_file(path)["latents"]
    parts = torch.split(pictures, _ENCODED_AT_ONCE)
    progress = Progress("encode", len(parts), write)
    found = []
    with torch.no_grad():
        for place, part in enumerate(parts):
            found.append(vae.encode(signed(part)).latent_dist.mean)
            progress.at(place + 1)
    latents = torch.cat(found)
    write_bytes(path, tensors_to_bytes({"latents": latents}))
    return latents


def normalised(vae: Any, raw: Latents) -> Latents:
    """(z - m)·f with m the mean of each channel and f = LATENT_STD/std of all; the VAE learns both.

    The scale becomes `scaling_factor`, as in
    Stable Diffusion. Its pipeline knows no shift, so m goes into the two 1×1 convolutions next to
    the latents: b_encode - m, b_decode + W_decode·m.
    """
    mean = raw.mean((0, 2, 3))
    centred = raw - mean[:, None, None]
    scale = LATENT_STD / float(centred.std())
    with torch.no_grad():
        vae.quant_conv.bias[: len(mean)] -= mean
        vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ mean
    vae.register_to_config(scaling_factor=scale)
    return centred * scale
