"""The density on a regular grid that spans the cube from wall to wall."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sd_core.errors import ConfigError
from sd_render.export.field_queries import densities
from sd_render.field import AbstractField, Points

GridDensities = Float[Tensor, "nodes nodes nodes"]
GridMask = Bool[Tensor, "nodes nodes nodes"]


@dataclass(frozen=True, eq=False)
class DensityGrid:
    """values[i, j, k] is the density at (i, j, k)·spacing - half_extent; spacing = 2h/(N - 1)."""

    values: GridDensities
    half_extent: float

    @property
    def resolution(self) -> int:
        """N, the points along a side."""
        return self.values.shape[0]

    @property
    def spacing(self) -> float:
        """The side of a cell, in world units."""
        return 2 * self.half_extent / (self.resolution - 1)

    @property
    def least(self) -> float:
        """The smallest density on the grid."""
        return float(self.values.min())

    @property
    def most(self) -> float:
        """The largest density on the grid."""
        return float(self.values.max())

    def world(self, indices: Points) -> Points:
        """Positions of (fractional) grid indices."""
        return indices * self.spacing - self.half_extent


def density_grid(field: AbstractField, resolution: int) -> DensityGrid:
    """The field's density at resolution³ points; computed slab by slab."""
    line = torch.linspace(-field.half_extent, field.half_extent, resolution)
    across = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).view(-1, 2)
    values = torch.empty(resolution, resolution, resolution)
    for slab, x in zip(values, line, strict=True):
        points = torch.cat([x.expand(len(across), 1), across], dim=1)
        slab.copy_(densities(field, points).view(resolution, resolution))
    broken = int((~values.isfinite()).sum())
    if broken:
        raise ConfigError(
            f"the density is not a finite number at {broken} of {values.numel()} points: "
            "the scene has diverged. Export an earlier checkpoint."
        )
    return DensityGrid(values, field.half_extent)
