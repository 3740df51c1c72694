"""Density and colour on a grid of voxels: simple, and fast on a CPU."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sd_core.config import option
from sd_core.renderer import AbstractRenderer, RendererContext
from sd_core.step import Step
from sd_render.field import AbstractField, CellDensities, Colours, PerPoint, Points
from sd_render.regularisers import total_variation
from sd_render.spherical_harmonics import spherical_harmonics
from sd_render.volume import VolumeScene
from sd_render.volume_options import VolumeOptions

Voxels = Float[Tensor, "1 channels depth height width"]
_Voxels = Annotated[int, Field(ge=2)]
_Share = Annotated[float, Field(ge=0, lt=1)]


class VoxelGridOptions(VolumeOptions):
    """A voxel grid that grows, as in DVGO (Sun et al. 2022) and Plenoxels (Yu et al. 2022)."""

    voxels: tuple[_Voxels, ...] = option(
        (17, 33, 65), "Nodes along a side, from the first grid to the last.", min_length=1
    )
    grow_at: tuple[_Share, ...] = option(
        (0.15, 0.3), "When each next grid takes over, as shares of the stage's steps."
    )
    harmonics: int = option(
        0, "Degree of the colour's dependence on the direction of view; 0 for none.", ge=0, le=2
    )

    @model_validator(mode="after")
    def _one_time_for_each_next_grid(self) -> "VoxelGridOptions":
        if len(self.grow_at) != len(self.voxels) - 1 or list(self.grow_at) != sorted(self.grow_at):
            raise ValueError(
                f"grow_at is {list(self.grow_at)}, but {len(self.voxels)} grids need "
                f"{len(self.voxels) - 1} rising shares, one for each grid after the first"
            )
        return self


class VoxelField(AbstractField):
    """density = unit/h·softplus(d) less its fog, colour = sigmoid(Σ_k c_k·Y_k(direction)).

    d and c are trilinear between the nodes.

    Of its grids one is in use at a time. A finer one takes over with the values of the coarser one;
    where the nodes are nested (17, 33, 65), growing changes no picture.
    """

    exact_cells: ClassVar[bool] = True
    active: Tensor

    def __init__(self, config: VoxelGridOptions, device: torch.device) -> None:
        super().__init__(config.half_extent)
        self.config = config
        self.per_colour = (config.harmonics + 1) ** 2
        self.channels = 1 + 3 * self.per_colour
        shapes = [(1, self.channels, size, size, size) for size in config.voxels]
        self.grids = nn.ParameterList(nn.Parameter(torch.zeros(s, device=device)) for s in shapes)
        with torch.no_grad():
            self.grids[0][0, 0] = config.blob(_nodes(config.voxels[0], config.half_extent, device))
        # Part of the scene's state: which grid holds its values.
        self.register_buffer("active", torch.zeros((), dtype=torch.long, device=device))

    def density(self, points: Points) -> PerPoint:
        return self.config.activated(self._at(points, self.values[:, :1])[0])

    def density_and_colour(self, points: Points, directions: Points) -> tuple[PerPoint, Colours]:
        at = self._at(points, self.values)
        colours = at[1:]
        if self.per_colour > 1:
            basis = spherical_harmonics(directions, self.config.harmonics).T
            colours = (colours.view(3, self.per_colour, -1) * basis).sum(dim=1)
        return self.config.activated(at[0]), colours.sigmoid().T

    def normals(self, points: Points) -> Points:
        """n = -∇d/‖∇d‖ from central differences at the nodes, one-sided at the walls."""
        along_z, along_y, along_x = torch.gradient(self.values[0, 0])
        slope = torch.stack([along_x, along_y, along_z])[None]
        # A norm over numbers that do not lie together would take ten times as long.
        return -F.normalize(self._at(points, slope).T.contiguous(), dim=-1)

    def prepare(self, step: Step) -> None:
        """Let the grid that this step asks for take over."""
        wanted = sum(step.index >= share * step.total for share in self.config.grow_at)
        while int(self.active) < wanted:
            finer = self.grids[int(self.active) + 1]
            with torch.no_grad():
                finer.copy_(_resized(self.values, finer.shape[-1]))
            self.active += 1

    def total_variation(self) -> Float[Tensor, ""]:
        return total_variation(self.values[0])

    def cell_densities(self, cells: int, generator: Generator) -> CellDensities:
        """The most that trilinear interpolation can give: the largest of the nodes around."""
        nodes = self.values.detach()[0, 0].permute(2, 1, 0)
        intervals = nodes.shape[0] - 1
        first = torch.arange(cells, device=nodes.device) * intervals // cells
        window = torch.arange(-(-intervals // cells) + 2, device=nodes.device)
        near = (first[:, None] + window).clamp_max(intervals)
        for axis in range(3):
            nodes = nodes.movedim(axis, 0)[near].amax(dim=1).movedim(0, axis)
        return self.config.activated(nodes)

    @property
    def values(self) -> Voxels:
        """The grid in use: raw density, then the colours' coefficients; indexed by z, y, x."""
        grid: Tensor = self.grids[int(self.active)]
        return grid

    def _at(self, points: Points, grid: Voxels) -> Float[Tensor, "channels points"]:
        where = (points / self.half_extent).view(1, -1, 1, 1, 3)
        at: Tensor = F.grid_sample(grid, where, align_corners=True, padding_mode="border")
        return at[0, :, :, 0, 0]


class VoxelGrid(VolumeScene):
    """The scene of a voxel grid. In a later stage it begins as the voxel grid before."""

    config: VoxelGridOptions
    field: VoxelField

    def __init__(self, config: VoxelGridOptions, context: RendererContext) -> None:
        super().__init__(VoxelField(config, context.device), config, context)

    @staticmethod
    def _begins_as(field: AbstractField, previous: AbstractRenderer) -> bool:
        """Any voxel grid of the same cube and harmonics will do, whatever its size."""
        if not (isinstance(field, VoxelField) and isinstance(previous, VoxelGrid)):
            return False
        before, now = previous.config, field.config
        if (before.half_extent, previous.field.channels) != (now.half_extent, field.channels):
            return False
        with torch.no_grad():
            field.values.copy_(_resized(previous.field.values, field.values.shape[-1]))
        return True


def _nodes(size: int, half_extent: float, device: torch.device) -> Float[Tensor, "z y x 3"]:
    line = torch.linspace(-half_extent, half_extent, size, device=device)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    return torch.stack([x, y, z], dim=-1)


def _resized(grid: Voxels, size: int) -> Float[Tensor, "1 channels {size} {size} {size}"]:
    """The same function at other nodes; exactly so where the old nodes are among the new."""
    return F.interpolate(grid, (size, size, size), mode="trilinear", align_corners=True)
