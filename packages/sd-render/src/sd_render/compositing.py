"""From densities along rays to what a pixel sees: weights, and sums and moments over them.

Samples are packed: the samples of all rays stand in one row, sorted by ray and then from near to
far. `ray[i]` is the ray of sample i, never less than `ray[i - 1]`; a ray may have no samples.
Letters: σ density per world unit, δ thickness and t distance in world units, w weight, o opacity.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

PerPackedSample = Float[Tensor, " samples"]
RayOfSample = Int[Tensor, " samples"]
PerRay = Float[Tensor, " rays"]

# A ray that is less opaque than this is taken not to have hit anything (threestudio).
OPAQUE = 0.5
# What divides by the opacity divides by no less than this (threestudio).
LEAST_OPACITY = 1e-5
# Optical depth of one sample behind which nothing is seen: e^-100 = 4e-44.
_BLACK = 100.0


def sample_weights(
    density: PerPackedSample, thickness: PerPackedSample, ray: RayOfSample
) -> PerPackedSample:
    """The share of a ray's light that each sample sends. Max (1995), NeRF eq. 3.

    τ_i = σ_i δ_i, T_i = exp(-Σ_{j<i, same ray} τ_j), w_i = T_i (1 - exp(-τ_i)).

    A ray's weights sum to 1 - exp(-Σ τ_i) ≤ 1. A sample of no density or no thickness weighs 0,
    a very dense one takes all that is left. Differentiable; densities must be finite.
    """
    # One running sum over all rays, less its value where the ray begins: no padding. It grows to
    # millions, where float32 would lose the small differences; the bound on τ keeps one huge
    # density from doing the same to float64.
    depth = (density.double() * thickness.double()).clamp_max(_BLACK)
    before = depth.cumsum(dim=0) - depth
    transmittance = (_at_first_of_ray(before, ray) - before).exp()
    return (transmittance * -torch.expm1(-depth)).to(density.dtype)


def along_rays(
    weights: PerPackedSample,
    values: Float[Tensor, "samples channels"],
    ray: RayOfSample,
    rays: int,
) -> Float[Tensor, "rays channels"]:
    """Σ_i w_i v_i of each ray; 0 for a ray without samples."""
    weighted = weights[:, None] * values
    return weighted.new_zeros(rays, values.shape[1]).index_add(0, ray, weighted)


def sum_of_rays(values: PerPackedSample, ray: RayOfSample, rays: int) -> PerRay:
    """Σ_i v_i of each ray; 0 for a ray without samples."""
    return values.new_zeros(rays).index_add(0, ray, values)


def opacity(weights: PerPackedSample, ray: RayOfSample, rays: int) -> PerRay:
    """o = Σ_i w_i of each ray, in [0, 1] up to rounding."""
    return sum_of_rays(weights, ray, rays)


def mean_depth(
    weights: PerPackedSample, distance: PerPackedSample, ray: RayOfSample, rays: int
) -> PerRay:
    """t̄ = Σ_i w_i t_i / max(Σ_i w_i, 1e-5), the mean distance that a ray sees.

    Where o < 1e-5 it fades to 0: a ray that hits nothing has depth 0.
    """
    total = sum_of_rays(weights * distance, ray, rays)
    return total / opacity(weights, ray, rays).clamp_min(LEAST_OPACITY)


def depth_variance(
    weights: PerPackedSample, distance: PerPackedSample, ray: RayOfSample, rays: int
) -> PerRay:
    """Σ_i ŵ_i (t_i - t̄)², ŵ_i = w_i / max(o, 1e-5); 0 where o ≤ 0.5 (threestudio's z_variance).

    In squared world units. Small where all that a ray sees lies in one thin layer.
    """
    seen = opacity(weights, ray, rays)
    mean = mean_depth(weights, distance, ray, rays)
    from_mean = distance - mean.index_select(0, ray)  # mean[ray] has a slow gradient
    spread = sum_of_rays(weights * from_mean.square(), ray, rays) / seen.clamp_min(LEAST_OPACITY)
    return torch.where(seen > OPAQUE, spread, 0.0)


def _at_first_of_ray(values: PerPackedSample, ray: RayOfSample) -> PerPackedSample:
    """For each sample, the value at the first sample of its ray."""
    _, count = torch.unique_consecutive(ray, return_counts=True)
    first = count.cumsum(dim=0) - count
    return values.index_select(0, first).repeat_interleave(count, output_size=len(ray))
