"""Which parts of the cube are worth asking about."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool
from torch import Generator, Tensor, nn
from torch.nn.functional import max_pool3d

from sd_render.field import AbstractField, CellDensities

OccupiedCells = Bool[Tensor, "cells cells cells"]

# What a cell was known to hold is forgotten by this factor an update. Instant-NGP has 0.95, and
# takes a cell for empty much sooner. At 0.6 one look at a surface (density 10) keeps its cell for
# 20 looks, and space that became empty is left alone after as many.
DECAY = 0.6


# The opacity that a ray may lose, at the very most, by passing over cells.
TOLERANCE = 1e-3


class OccupancyGrid(nn.Module):
    """A coarse grid of densities: rays pass over the cells that are almost empty.

    Part of the scene's state, because an estimate is collected over many steps.
    """

    densities: CellDensities

    def __init__(self, cells: int, device: torch.device) -> None:
        super().__init__()
        everywhere = torch.full((cells, cells, cells), torch.inf, device=device)
        self.register_buffer("densities", everywhere)  # nothing is passed over before an update

    @property
    def is_new(self) -> bool:
        """Whether it was never updated."""
        return bool(self.densities[0, 0, 0].isinf())

    def update(self, field: AbstractField, generator: Generator) -> None:
        """Take a bound as it is; an estimate can only raise what is remembered, and it fades."""
        seen = field.cell_densities(len(self.densities), generator)
        if not (field.exact_cells or self.is_new):
            seen = torch.maximum(seen, DECAY * self.densities)
        self.densities.copy_(seen)

    @contextmanager
    def looked_at_now(self, field: AbstractField) -> Iterator[None]:
        """For pictures between two updates: a new look, forgotten afterwards.

        Of an estimate it is the larger of the new one and what is remembered.
        """
        remembered = self.densities
        device = remembered.device
        seen = field.cell_densities(len(remembered), Generator(device).manual_seed(0))
        self.densities = seen if field.exact_cells else torch.maximum(seen, remembered)
        try:
            yield
        finally:
            self.densities = remembered

    def occupied(self, least_density: float) -> OccupiedCells:
        """The cells with at least this density, and their neighbours, where matter may grow."""
        around = max_pool3d(self.densities[None], 3, stride=1, padding=1)
        return around[0] >= least_density


def least_density(half_extent: float) -> float:
    """The density s under which a whole cube of side 2h dims no ray by more than TOLERANCE.

    Its longest ray has 2√3·h, and 1 - exp(-s·d) <= s·d: s = TOLERANCE/(2√3·h).
    """
    return TOLERANCE / (2 * 3**0.5 * half_extent)
