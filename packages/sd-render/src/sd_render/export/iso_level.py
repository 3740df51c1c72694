"""Which density is the surface: the one whose outline agrees best with the rendered one.

Along a ray r let O(r) = 1 - exp(-∫σ) be the rendered opacity and M(r) = max σ. The surface
{σ = τ} covers the rays {M > τ}, the picture those with O > 1/2. The level is the τ with the largest
overlap  IoU(τ) = |M > τ and O > 1/2| / |M > τ or O > 1/2|,  and sorting the rays by M gives all.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from sd_core.cameras import orbit_cameras
from sd_core.errors import ConfigError
from sd_render.export.density_grid import DensityGrid, GridMask
from sd_render.export.field_queries import densities
from sd_render.field import AbstractField, PerPoint, Points

VIEWS = 12
PIXELS = 64
SAMPLES = 96
# A ray that crosses the whole cube through no more than this is transparent enough to skip.
UNSEEN_OPTICAL_DEPTH = 0.01
# Levels this near to the best overlap are as good as it, and the middle of them is taken ...
AS_GOOD = 0.001
# ... where the smallest counts as no less than this share of the largest: it may be 0.
WIDEST = 1e-3
# Below this overlap the user is warned.
FITS_WELL = 0.9


@dataclass(frozen=True)
class IsoLevel:
    """The density of the surface, and why it was taken: a sentence for the user."""

    value: float
    reason: str


@dataclass(frozen=True, eq=False)
class RaySums:
    """O(r) and M(r) of each ray."""

    opacity: PerPoint
    largest_density: PerPoint


def choose_level(field: AbstractField, grid: DensityGrid, asked: float | None) -> IsoLevel:
    """The user's level where there is a surface of it, or without one the best."""
    if asked is None:
        return automatic_level(field, grid)
    if not grid.least <= asked < grid.most:
        raise ConfigError(
            f"level is {asked:g}, but the density goes from {grid.least:.4g} to {grid.most:.4g} "
            f"on {_named(grid)}. Choose a level between them, or leave it out."
        )
    return IsoLevel(asked, f"iso level {asked:g}, as asked for.")


def automatic_level(field: AbstractField, grid: DensityGrid) -> IsoLevel:
    """The level whose outline agrees best with the rendered one, from all sides."""
    sums = ray_sums(field, grid)
    seen = sums.opacity > 0.5
    if not bool(seen.any()):
        most_opaque = float(sums.opacity.max())
        raise ConfigError(
            f"there is no surface to export: nothing is more than half opaque, the most is "
            f"{100 * most_opaque:.2g} %. The density goes from {grid.least:.4g} to "
            f"{grid.most:.4g} on {_named(grid)}. Train longer, or choose a level between them."
        )
    # Marching cubes knows the grid alone: a level above all of it would leave no surface.
    level, overlap = best_level(sums.largest_density.clamp_max(grid.most), seen)
    reason = (
        f"iso level {level:.3g}: of all levels its outline agrees best with the rendered one "
        f"({100 * overlap:.0f} % overlap in {VIEWS} views)."
    )
    if overlap < FITS_WELL:
        reason += (
            " That is little: the scene is foggy, and the mesh will not look like the renders."
        )
    return IsoLevel(level, reason)


def best_level(largest: PerPoint, seen: Bool[Tensor, " points"]) -> tuple[float, float]:
    """The τ with the best overlap of {largest > τ} with `seen`, and that overlap.

    √(a·b) where all levels from a to b are as good.
    """
    order = largest.double().argsort(descending=True)
    height = largest.double()[order]
    both = seen[order].double().cumsum(0)
    covered = torch.arange(1, len(order) + 1, dtype=torch.float64)
    overlap = both / (covered + both[-1] - both)
    below = torch.cat([height[1:], height.new_zeros(1)])
    possible = below < height  # no level parts rays of equal density
    height, below, overlap = height[possible], below[possible], overlap[possible]
    best = int(overlap.argmax())
    as_good = overlap >= overlap[best] - AS_GOOD
    first = last = best
    while first > 0 and as_good[first - 1]:
        first -= 1
    while last + 1 < len(overlap) and as_good[last + 1]:
        last += 1
    high = float(height[first])
    low = max(float(below[last]), WIDEST * high)
    return math.sqrt(low * high), float(overlap[best])


def ray_sums(field: AbstractField, grid: DensityGrid) -> RaySums:
    """O and M of parallel rays through the ball round all matter, from VIEWS sides.

    Where the grid shows next to nothing all around, the field is not asked.
    """
    matter = _matter(grid)
    centre, radius = _ball(matter, grid)
    step = 2 * radius / SAMPLES
    along = (torch.arange(SAMPLES) + 0.5) * step - radius
    opacities, largest = [], []
    for right, up, backward in _frames(VIEWS):
        across = torch.stack(_disc(PIXELS), dim=-1) * radius
        start = centre + across @ torch.stack([right, up])
        points = start[:, None] - along[:, None] * backward
        density = _where_matter(field, grid, matter, points.view(-1, 3)).view(-1, SAMPLES)
        opacities.append(-torch.expm1(-density.sum(dim=1) * step))
        largest.append(density.amax(dim=1))
    return RaySums(torch.cat(opacities), torch.cat(largest))


def _named(grid: DensityGrid) -> str:
    return f"the grid of {grid.resolution}³ points"


def _matter(grid: DensityGrid) -> GridMask:
    """Grid points with something that may be seen among their neighbours; all if there is none."""
    around = torch.nn.functional.max_pool3d(grid.values[None, None], 3, stride=1, padding=1)[0, 0]
    matter = around > UNSEEN_OPTICAL_DEPTH / (2 * math.sqrt(3) * grid.half_extent)
    return matter if bool(matter.any()) else torch.ones_like(matter)


def _ball(matter: GridMask, grid: DensityGrid) -> tuple[Tensor, float]:
    """A ball round all matter: about the middle of its bounding box, out to the farthest point."""
    points = grid.world(matter.nonzero().float())
    centre = (points.amin(dim=0) + points.amax(dim=0)) / 2
    return centre, float((points - centre).norm(dim=1).max())


def _where_matter(
    field: AbstractField,
    grid: DensityGrid,
    matter: GridMask,
    points: Points,
) -> PerPoint:
    """The density where there may be any, 0 elsewhere and outside the cube."""
    inside = (points.abs() <= grid.half_extent).all(dim=1)
    nearest = ((points + grid.half_extent) / grid.spacing).round().long()
    i, j, k = nearest.clamp(0, grid.resolution - 1).unbind(dim=1)
    asked = inside & matter[i, j, k]
    density = torch.zeros(len(points))
    density[asked] = densities(field, points[asked])
    return density


def _frames(count: int) -> Tensor:
    """Right, up and backward of views from an even spiral on the upper half of the sphere.

    From below, parallel rays would show the same outlines again.
    """
    index = torch.arange(count) + 0.5
    cameras = orbit_cameras(
        azimuth=index * (math.pi * (3 - math.sqrt(5))),
        elevation=torch.asin(index / count),
        distance=torch.ones(count),
        vertical_fov=torch.ones(count),
    )
    return cameras.camera_to_world[:, :3, :3].mT


def _disc(pixels: int) -> tuple[PerPoint, PerPoint]:
    """Pixel centres of the square [-1, 1]² that lie in the unit disc."""
    line = (torch.arange(pixels) + 0.5) * (2 / pixels) - 1
    x, y = torch.meshgrid(line, line, indexing="xy")
    inside = x * x + y * y <= 1
    return x[inside], y[inside]
