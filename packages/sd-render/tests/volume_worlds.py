"""Small volumes for tests, and a slow renderer to hold the fast one against."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch, orbit_cameras, rays
from sd_core.renderer import RendererContext
from sd_render.field import AbstractField
from sd_render.voxel_grid import VoxelGrid, VoxelGridOptions


class SoftBall(AbstractField):
    """density = 40·sigmoid(30·(r0 - ‖x - centre‖)), coloured by position; everything smooth."""

    def __init__(self, radius: float = 0.5, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)):
        super().__init__(half_extent=1.0)
        self.radius = torch.nn.Parameter(torch.tensor(radius, dtype=torch.float64))
        self.centre = torch.tensor(centre, dtype=torch.float64)

    def density(self, points: Tensor) -> Tensor:
        distance = (points - self.centre.to(points)).norm(dim=-1)
        return 40 * (30 * (self.radius.to(points) - distance)).sigmoid()

    def density_and_colour(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return self.density(points), (points + 1) / 2


def context() -> RendererContext:
    return RendererContext((3, 16, 16), Generator().manual_seed(0), torch.device("cpu"))


def voxels(**options) -> VoxelGrid:
    """A small grid without growth, its values at random around a ball."""
    config = VoxelGridOptions(**{"voxels": (17,), "grow_at": (), "size": 16, **options})
    scene = VoxelGrid(config, context())
    generator = Generator().manual_seed(5)
    with torch.no_grad():
        for grid in scene.field.grids:
            grid.add_(torch.randn(grid.shape, generator=generator))
    return scene


def around(count: int, *, elevation: float = 0.3, start: float = 0.0) -> CameraBatch:
    azimuth = start + math.tau * torch.arange(count) / count
    return orbit_cameras(
        azimuth=azimuth,
        elevation=torch.full((count,), elevation),
        distance=torch.full((count,), 2.5),
        vertical_fov=torch.full((count,), math.radians(50.0)),
    )


def slow_picture(
    field: AbstractField, cameras: CameraBatch, size: int, samples: int
) -> Float[Tensor, "batch 5 size size"]:
    """Colour on white, opacity and depth, ray by ray and sample by sample in double precision."""
    origins, directions = rays(cameras, size, size)
    pictures = torch.zeros(len(cameras), 5, size, size, dtype=torch.float64)
    for view in range(len(cameras)):
        for row in range(size):
            for column in range(size):
                seen = _slow_ray(
                    field, origins[view, row, column], directions[view, row, column], samples
                )
                pictures[view, :, row, column] = seen
    return pictures


def _slow_ray(field: AbstractField, origin: Tensor, direction: Tensor, samples: int) -> Tensor:
    near, far = 0.0, math.inf
    for axis in range(3):
        o, d, h = float(origin[axis]), float(direction[axis]), field.half_extent
        a, b = sorted(((-h - o) / d, (h - o) / d))
        near, far = max(near, a), min(far, b)
    colour, opacity, depth, light = torch.zeros(3, dtype=torch.float64), 0.0, 0.0, 1.0
    if far > near:
        piece = (far - near) / samples
        middles = near + (torch.arange(samples) + 0.5) * piece
        points = origin + middles[:, None] * direction
        with torch.no_grad():
            density, colours = field.density_and_colour(points, direction.expand_as(points))
        for i in range(samples):
            weight = light * (1 - math.exp(-float(density[i]) * piece))
            colour = colour + weight * colours[i].double()
            opacity, depth = opacity + weight, depth + weight * float(middles[i])
            light *= math.exp(-float(density[i]) * piece)
    behind = torch.full((3,), light, dtype=torch.float64)
    last = torch.tensor([opacity, depth / max(opacity, 1e-5)], dtype=torch.float64)
    return torch.cat([colour + behind, last])
