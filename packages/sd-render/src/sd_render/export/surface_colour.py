"""The colour that somebody sees who looks straight at a surface."""

import torch
from jaxtyping import Float
from torch import Tensor

from sd_render.export.field_queries import densities_and_colours
from sd_render.field import AbstractField, Colours, Points

# The ends of the pieces of each ray, in cells of the grid: outside the surface (below 0) evenly,
# inside longer and longer, as far as one can look into soft matter.
OUTSIDE = 2.0
OUTER_PIECES = 4
INNER_PIECES = 12
FIRST_INSIDE = 0.25
GROWTH = 1.25
# Weight of the plain mean where a ray meets nothing at all.
FAINT = 1e-6
RAYS_AT_ONCE = 2**14


def surface_colours(
    field: AbstractField, positions: Points, normals: Points, cell: float
) -> Colours:
    """c = Σ_i w_i c_i / Σ_i w_i along p - t·n, from just outside to inside the surface.

    w_i = T_i·(1 - exp(-σ_i δ_i)), T_i = exp(-Σ_{j<i} σ_j δ_j), as in the renders, and c_i as seen
    by a ray along -n. Not the colour at p: the surface is thin air there, and what shows is a
    little deeper. `cell` is the side of a grid cell in world units.
    """
    rays = zip(
        torch.split(positions, RAYS_AT_ONCE), torch.split(normals, RAYS_AT_ONCE), strict=True
    )
    colours = [_seen(field, some, towards, cell) for some, towards in rays]
    return torch.cat(colours) if colours else torch.zeros(0, 3)


def front_to_back_weights(
    optical_depth: Float[Tensor, "rays samples"],
) -> Float[Tensor, "rays samples"]:
    """w_i = exp(-Σ_{j<i} τ_j)·(1 - exp(-τ_i)) for the optical depths τ_i = σ_i δ_i."""
    before = optical_depth.cumsum(dim=1) - optical_depth
    return (-before).exp() * -torch.expm1(-optical_depth)


def piece_ends() -> Float[Tensor, " ends"]:
    """Where the pieces of a ray begin and end, in cells below the surface."""
    outer = torch.linspace(-OUTSIDE, 0, OUTER_PIECES + 1)
    inner = FIRST_INSIDE * GROWTH ** torch.arange(INNER_PIECES)
    return torch.cat([outer, inner.cumsum(0)])


def _seen(field: AbstractField, positions: Points, normals: Points, cell: float) -> Colours:
    ends = piece_ends() * cell
    depth, length = (ends[1:] + ends[:-1]) / 2, ends.diff()
    points = (positions[:, None] - depth[:, None] * normals[:, None]).view(-1, 3)
    inside = (points.abs() <= field.half_extent).all(dim=1)
    directions = -normals.repeat_interleave(len(depth), dim=0)
    density, colour = torch.zeros(len(points)), torch.zeros(len(points), 3)
    density[inside], colour[inside] = densities_and_colours(
        field, points[inside], directions[inside]
    )
    weights = front_to_back_weights(density.view(-1, len(depth)) * length)
    weights = (weights + FAINT * inside.view(-1, len(depth)))[..., None]
    return (weights * colour.view(-1, len(depth), 3)).sum(1) / weights.sum(1)
