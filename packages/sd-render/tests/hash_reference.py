"""The hash grid by dictionaries and plain loops, for the tests: nothing of it comes from ours."""

import math

import torch
from torch import Generator

from sd_render.encodings.hash_layout import HashLayout

# Dense levels and hashed ones, with many more vertices than entries.
MIXED = HashLayout(levels=4, features=2, log2_table=8, base_resolution=3, growth=1.9, smooth=True)
MIXED_LINEAR = HashLayout(
    levels=4, features=2, log2_table=8, base_resolution=3, growth=1.9, smooth=False
)


def points_and_corners(count: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Points in the unit cube, among them its own corners."""
    points = torch.rand(count, 3, generator=Generator().manual_seed(1), dtype=dtype)
    corners = [[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    return torch.cat([points, torch.tensor(corners, dtype=dtype)])


def table_of(layout: HashLayout, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    shape = (layout.entries, layout.features)
    return torch.randn(shape, generator=Generator().manual_seed(2), dtype=dtype)


class DictionaryGrid:
    """Looks up {(level, index): features}, and remembers which vertices shared an index."""

    def __init__(self, layout: HashLayout, table: torch.Tensor) -> None:
        self.layout = layout
        self.entries = {}
        self.vertices_of = {}
        rows = iter(table.tolist())
        for level in range(layout.levels):
            for index in range(min(self.vertices_along(level) ** 3, 2**layout.log2_table)):
                self.entries[level, index] = next(rows)
        assert next(rows, None) is None

    def scale(self, level: int) -> float:
        return self.layout.base_resolution * self.layout.growth**level - 1

    def vertices_along(self, level: int) -> int:
        return math.ceil(self.scale(level)) + 1

    def index(self, level: int, x: int, y: int, z: int) -> int:
        side, most = self.vertices_along(level), 2**self.layout.log2_table
        if side**3 <= most:
            x, y, z = (min(each, side - 1) for each in (x, y, z))
            found = x + y * side + z * side * side
        else:
            mixed = x ^ (y * 2654435761 & 0xFFFFFFFF) ^ (z * 805459861 & 0xFFFFFFFF)
            found = mixed % most
        self.vertices_of.setdefault((level, found), set()).add((x, y, z))
        return found

    def encode(self, point: list[float]) -> list[float]:
        return [value for level in range(self.layout.levels) for value in self.at(level, point)]

    def at(self, level: int, point: list[float]) -> list[float]:
        place = [each * self.scale(level) + 0.5 for each in point]
        cell = [math.floor(each) for each in place]
        within = [each - low for each, low in zip(place, cell, strict=True)]
        if self.layout.smooth:
            within = [3 * each**2 - 2 * each**3 for each in within]
        features = [0.0] * self.layout.features
        for dx in (0, 1):
            for dy in (0, 1):
                for dz in (0, 1):
                    weight = 1.0
                    for high, each in zip((dx, dy, dz), within, strict=True):
                        weight *= each if high else 1 - each
                    entry = self.index(level, cell[0] + dx, cell[1] + dy, cell[2] + dz)
                    for number, value in enumerate(self.entries[level, entry]):
                        features[number] += weight * value
        return features
