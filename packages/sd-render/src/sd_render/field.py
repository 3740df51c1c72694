"""What a volume is made of: a density and a colour at every point of a cube."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from sd_core.step import Step

Points = Float[Tensor, "points 3"]
PerPoint = Float[Tensor, " points"]
Colours = Float[Tensor, "points 3"]
CellDensities = Float[Tensor, "cells cells cells"]

MOST_POINTS = 2**18  # asked at once where nobody else bounds it


class AbstractField(nn.Module, ABC):
    """Density and colour in the cube [-h, h]³, h = `half_extent`. Outside there is nothing.

    Density is per world unit: a ray that crosses a length d of density s is dimmed by exp(-s·d).
    """

    # Whether `cell_densities` is an upper bound, or an estimate that wants to be kept a while.
    exact_cells: ClassVar[bool] = False

    def __init__(self, half_extent: float) -> None:
        super().__init__()
        self.half_extent = half_extent

    @abstractmethod
    def density(self, points: Points) -> PerPoint:
        """Density at points of the cube, at least 0."""

    @abstractmethod
    def density_and_colour(self, points: Points, directions: Points) -> tuple[PerPoint, Colours]:
        """The density, and the colour in [0, 1] as seen by rays of unit `directions`."""

    def density_twice_differentiable(self, points: Points) -> PerPoint:
        """The density, by code whose gradient has a gradient, if that is other and slower code."""
        return self.density(points)

    def normals(self, points: Points) -> Points:
        """n = -∇density/‖∇density‖, by automatic differentiation; differentiable once more.

        0 where the density does not change.
        """
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            if differentiable:
                total = self.density_twice_differentiable(points).sum()
            else:
                with self._learning_nothing():
                    total = self.density(points).sum()
            (slope,) = torch.autograd.grad(total, points, create_graph=differentiable)
        return -normalize(slope, dim=-1)

    @contextmanager
    def _learning_nothing(self) -> Iterator[None]:
        """Parameters without gradients, for a gradient of the points alone.

        What torch did not write itself (the compiled hash grid, tinycudann) computes the gradients
        of all that require one, whether or not anybody asks for them.
        """
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        try:
            for parameter in learned:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in learned:
                parameter.requires_grad_()

    def prepare(self, step: Step) -> None:
        """Schedules of the field's own, such as finer levels that join."""

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Groups for the optimiser."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]

    def total_variation(self) -> Float[Tensor, ""] | None:
        """How much neighbouring parameters differ; None where they have no neighbours."""
        return None

    def cell_densities(self, cells: int, generator: Generator) -> CellDensities:
        """The density in each of cells³ equal parts of the cube, indexed by x, y, z.

        Here at one random point in each; a field that knows a bound says so by `exact_cells`.
        """
        device = generator.device
        line = torch.arange(cells, device=device)
        corner = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1).view(-1, 3)
        inside = torch.rand(len(corner), 3, generator=generator, device=device)
        points = ((corner + inside) * (2 / cells) - 1) * self.half_extent
        with torch.no_grad():
            some = [self.density(part) for part in torch.split(points, MOST_POINTS)]
        return torch.cat(some).view(cells, cells, cells)


def finite_difference_normals(field: AbstractField, points: Points, spacing: float) -> Points:
    """n = -∇density/‖∇density‖ with ∂ᵢ ≈ (density(x + h·eᵢ) - density(x - h·eᵢ))/(2h).

    Six evaluations, but only first derivatives of the field: what its fastest code can do.
    """
    offsets = spacing * torch.eye(3, dtype=points.dtype, device=points.device)
    places = torch.stack([points + sign * axis for axis in offsets for sign in (1, -1)])
    at = field.density(places.view(-1, 3)).view(3, 2, -1)
    # A norm over numbers that do not lie together would take ten times as long.
    return -normalize((at[:, 0] - at[:, 1]).T.contiguous(), dim=-1)
