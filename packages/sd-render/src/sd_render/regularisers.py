"""Penalties that keep a volume from turning into fog, needles or an inside-out shell.

Letters: o opacity of a ray, w_i weight of its sample i, n_i outward unit normal, d unit direction
of the ray. The sums over samples come ray by ray, so that a picture may be drawn in chunks.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sd_render.compositing import (
    OPAQUE,
    PerPackedSample,
    PerRay,
    RayOfSample,
    sum_of_rays,
)

Scalar = Float[Tensor, ""]
# One number for each pixel or ray, in whatever arrangement.
Map = Float[Tensor, "*pixels"]


def sparsity(opacity: Map) -> Scalar:
    """mean √(o² + 0.01): a pull to empty space. DreamFusion, threestudio.

    From 0.1 where all is empty to 1.005 where all is full.
    """
    return (opacity.square() + 0.01).sqrt().mean()


def opaqueness(opacity: Map) -> Scalar:
    """mean -(o·ln o + (1 - o)·ln(1 - o)), in nats, o clamped to [0.001, 0.999]. threestudio.

    A pull to rays that are either full or empty; at most ln 2, flat where the clamp holds.
    """
    o = opacity.clamp(1e-3, 1 - 1e-3)
    return -(o * o.log() + (1 - o) * (1 - o).log()).mean()


def weight_entropy_of_rays(weights: PerPackedSample, ray: RayOfSample, rays: int) -> PerRay:
    """Σ_i H(w_i) of each ray, H(w) = -w·log₂ w - (1 - w)·log₂(1 - w) in bits. ProlificDreamer.

    w is clamped to [1e-5, 1 - 1e-5] as in stable-dreamfusion, so that an empty sample counts
    1.8e-4. A sample that was left out, in space known to be empty, counts 0; the slope is 0 for
    both.
    """
    w = weights.clamp(1e-5, 1 - 1e-5)
    return sum_of_rays(-w * w.log2() - (1 - w) * (1 - w).log2(), ray, rays)


def weight_entropy(of_rays: Map, samples: int) -> Scalar:
    """mean H(w) over rays × `samples`, the number of samples that a ray has or would have."""
    return of_rays.mean() / samples


def orientation_of_rays(
    weights: PerPackedSample,
    normals: Float[Tensor, "samples 3"],
    directions: Float[Tensor, "rays 3"],
    ray: RayOfSample,
) -> PerRay:
    """Σ_i w_i·max(n_i·d, 0)² of each ray: normals that face away. Ref-NeRF, DreamFusion.

    The weights are constants here, so that the normals turn and the density does not flee.
    """
    away = (normals * directions.index_select(0, ray)).sum(dim=-1).relu().square()
    return sum_of_rays(weights.detach() * away, ray, len(directions))


def orientation(of_rays: Map, opacity: Map) -> Scalar:
    """Σ of all rays / number of rays with o > 0, or 0 where there is none. threestudio."""
    return of_rays.sum() / (opacity > 0).sum().clamp_min(1)


def depth_variance_loss(variance: Map, opacity: Map) -> Scalar:
    """mean of the depth variance over pixels with o > 0.5, or 0 where there is none. threestudio.

    In squared world units.
    """
    full = opacity > OPAQUE
    return torch.where(full, variance, 0.0).sum() / full.sum().clamp_min(1)


def total_variation(grid: Float[Tensor, "channels x y z"]) -> Scalar:
    """Σ over the axes x, y, z of mean (g_{k+1} - g_k)²: neighbours should be alike.

    An axis with one cell has no neighbours and adds nothing. DVGO, TensoRF.
    """
    axes = [axis for axis in (1, 2, 3) if grid.shape[axis] > 1]
    total = sum((grid.diff(dim=axis).square().mean() for axis in axes), start=grid.new_zeros(()))
    return total
