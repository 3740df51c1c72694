"""The slope of a picture carried to latents without the decoder."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from sd_core.shapes import Images, Latents


def latent_slope(clean: Latents, images: Images, slope: Images) -> Latents:
    """Mᵀ·∇_x log r: M: latent channels → colours makes the pictures as well as a matrix can.

    M is the same at all places and is fitted by least squares to this very batch, its pictures
    averaged over the patch that belongs to each place of the latents. ∇_x is summed over it.
    """
    size = clean.shape[-2], clean.shape[-1]
    colours = _rows(adaptive_avg_pool2d(images, size))
    known = _rows(torch.cat([clean, torch.ones_like(clean[:, :1])], dim=1))
    # Normal equations of so few unknowns, with a touch of ridge: latents may be all alike.
    squares, products = known.T @ known, known.T @ colours
    ridge = 1e-9 * squares.trace() * torch.eye(len(squares), dtype=known.dtype, device=known.device)
    mapping = torch.linalg.solve(squares + ridge, products)[:-1].to(slope)  # no constant
    pixels = images[0, 0].numel() / clean[0, 0].numel()
    summed = adaptive_avg_pool2d(slope, size) * pixels
    return torch.einsum("lc,bchw->blhw", mapping, summed)


def _rows(maps: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "places channels"]:
    return maps.movedim(1, -1).flatten(0, -2).double()
