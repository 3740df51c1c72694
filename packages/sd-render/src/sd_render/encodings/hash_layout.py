"""The shape of a multi-resolution hash grid: how fine each level is, and where its entries lie."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

from sd_core.errors import ConfigError

# Müller et al. 2022, eq. 4: one factor for each axis.
PRIMES = (1, 2_654_435_761, 805_459_861)
FEATURES = (1, 2, 4, 8)  # what tiny-cuda-nn has kernels for


@dataclass(frozen=True)
class HashLayout:
    """L levels of F features each, at most T = 2^log2_table entries a level (arXiv:2201.05989).

    tiny-cuda-nn's convention, with b the growth from level to level:

        s_l = base_resolution·b^l - 1         cells to the unit length
        N_l = ⌈s_l⌉ + 1                       vertices to an axis, the level's resolution
        p   = s_l·x + 1/2,  v = ⌊p⌋           x in [0, 1]³; the cell has the vertices v and v + 1

    The half keeps the vertices of different levels apart, where smooth weights are flat (its
    appendix A). A level with N_l³ ≤ T is dense: vertex (x, y, z) has entry x + N_l·(y + N_l·z),
    and the one vertex beyond the last, of a point at the upper border, is the last (tiny-cuda-nn
    goes to the next row there). Other levels have T entries: (x·π_1 xor y·π_2 xor z·π_3) mod T.

    `smooth` weighs a cell's corners by 3f² - 2f³ of the place f in it, otherwise by f.
    """

    levels: int
    features: int
    log2_table: int
    base_resolution: int
    growth: float
    smooth: bool

    def __post_init__(self) -> None:
        if self.features not in FEATURES:
            raise ConfigError(
                f"a hash grid has 1, 2, 4 or 8 features a level, not {self.features}."
            )
        if self.levels < 1 or self.base_resolution < 2 or self.growth < 1:
            raise ConfigError(
                f"a hash grid needs at least 1 level, a base resolution of at least 2 and a "
                f"growth of at least 1, but has {self.levels}, {self.base_resolution} and "
                f"{self.growth}."
            )
        if not 4 <= self.log2_table <= 24:
            raise ConfigError(
                f"log2_table is {self.log2_table}, but a hash grid has from 2^4 to 2^24 entries "
                f"a level."
            )
        # The place in a cell is what remains of 24 bits.
        if self.scales[-1] >= 2**16:
            raise ConfigError(
                f"the finest level of the hash grid has resolution {self.resolutions[-1]}, which "
                f"32-bit numbers cannot resolve. Stay below {2**16}: fewer levels or less growth."
            )

    def first(self, levels: int) -> "HashLayout":
        """The coarsest levels alone; their entries lie where they lay."""
        return replace(self, levels=levels)

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """s_l"""
        return tuple(self.base_resolution * self.growth**level - 1 for level in range(self.levels))

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        """N_l"""
        # A growth such as 256^(1/15) should reach 16·256 and not a rounding error above it.
        return tuple(ceil(scale - 1e-6) + 1 for scale in self.scales)

    @cached_property
    def dense(self) -> tuple[bool, ...]:
        """Which levels have an entry for every vertex."""
        return tuple(resolution**3 <= self.table for resolution in self.resolutions)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each level."""
        pairs = zip(self.resolutions, self.dense, strict=True)
        return tuple(resolution**3 if dense else self.table for resolution, dense in pairs)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """The first entry of each level."""
        return tuple(sum(self.sizes[:level]) for level in range(self.levels))

    @property
    def table(self) -> int:
        """T"""
        return 1 << self.log2_table

    @property
    def entries(self) -> int:
        """Entries of all levels together."""
        return sum(self.sizes)

    @property
    def width(self) -> int:
        """L·F, the numbers that one point becomes."""
        return self.levels * self.features
