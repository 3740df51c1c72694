"""Convex solids that a ray meets in closed form.

A ray is o + t·d with t > 0 and begins outside of the solid. Rays and points are columns, [3 rays],
because each formula works on one axis at a time. z is up (see `sd_core.cameras`).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import hypot

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

Columns = Float[Tensor, "3 rays"]
PerRay = Float[Tensor, " rays"]
Triple = tuple[float, float, float]

# Stands in for a zero that a formula divides by: the quotient is then far away, and no NaN.
_TINY = 1e-12


@dataclass(frozen=True)
class AbstractSolid(ABC):
    """A convex solid around `centre`."""

    centre: Triple

    @property
    @abstractmethod
    def reach(self) -> float:
        """The radius of a ball around the centre that holds the solid."""

    def distance(self, origins: Columns, directions: Columns) -> PerRay:
        """The smallest t > 0 with o + t·d on the surface; infinity for a ray that misses."""
        return self._distance(self.relative(origins), directions)

    def normals(self, points: Columns) -> Columns:
        """Unit vectors that point outwards, at points of the surface."""
        return self._normals(self.relative(points))

    def relative(self, points: Columns) -> Columns:
        """The points as seen from the centre."""
        return points - points.new_tensor(self.centre)[:, None]

    @abstractmethod
    def _distance(self, origins: Columns, directions: Columns) -> PerRay:
        """`distance` for a solid around 0."""

    @abstractmethod
    def _normals(self, points: Columns) -> Columns:
        """`normals` for a solid around 0."""


@dataclass(frozen=True)
class Ellipsoid(AbstractSolid):
    """(x/a)² + (y/b)² + (z/c)² ≤ 1 with radii (a, b, c)."""

    radii: Triple

    @property
    def reach(self) -> float:
        return max(self.radii)

    def _distance(self, origins: Columns, directions: Columns) -> PerRay:
        radii = origins.new_tensor(self.radii)[:, None]
        o, d = origins / radii, directions / radii  # the solid is now the unit ball
        a, half_b = d.square().sum(0), (o * d).sum(0)
        # |o|² - (o·d)²/|d|² loses digits far away; the foot of the perpendicular does not.
        foot = o - half_b / a * d
        reach = (1 - foot.square().sum(0)) / a
        t = -half_b / a - reach.clamp_min(0).sqrt()
        return t.masked_fill((reach < 0) | (t <= 0), torch.inf)

    def _normals(self, points: Columns) -> Columns:
        slope = points / points.new_tensor(self.radii)[:, None].square()
        return normalize(slope, dim=0)


@dataclass(frozen=True)
class Block(AbstractSolid):
    """|x| ≤ a, |y| ≤ b, |z| ≤ c and |x| + |y| ≤ a + b - bevel: a box whose upright edges are cut.

    `half_sizes` is (a, b, c). Bevel 0 is a box, bevel (2 - √2)·a of a square one is an octagon.
    """

    half_sizes: Triple
    bevel: float = 0.0

    @property
    def reach(self) -> float:
        return hypot(*self.half_sizes)

    def _distance(self, origins: Columns, directions: Columns) -> PerRay:
        o, d = self._across(origins), self._across(directions)
        d = torch.where(d.abs() < _TINY, _TINY, d)
        half = self._half_widths(origins)
        middle, reach = -o / d, half / d.abs()
        enters, leaves = (middle - reach).amax(0), (middle + reach).amin(0)
        return enters.masked_fill((enters > leaves) | (enters <= 0), torch.inf)

    def _normals(self, points: Columns) -> Columns:
        across = self._across(points)
        pair = (across.abs() - self._half_widths(points)).argmax(0)  # the face that is touched
        diagonal = 0.5**0.5
        outwards = points.new_tensor(
            [[1, 0, 0], [0, 1, 0], [0, 0, 1], [diagonal, diagonal, 0], [diagonal, -diagonal, 0]]
        )
        return outwards[pair].T * across.gather(0, pair[None]).sign()

    def _across(self, vectors: Columns) -> Float[Tensor, "pairs rays"]:
        """Along the normals of the five pairs of faces: x, y, z and the two diagonals."""
        x, y, z = vectors.unbind(0)
        return torch.stack([x, y, z, (x + y) * 0.5**0.5, (x - y) * 0.5**0.5])

    def _half_widths(self, like: Tensor) -> Float[Tensor, "pairs 1"]:
        a, b, c = self.half_sizes
        diagonal = (a + b - self.bevel) * 0.5**0.5
        return like.new_tensor([a, b, c, diagonal, diagonal])[:, None]


@dataclass(frozen=True)
class Frustum(AbstractSolid):
    """|z| ≤ h and √(x² + y²) ≤ r(z), r linear from `bottom` at z = -h to `top` at z = h.

    With bottom = top a cylinder, with top = 0 a cone.
    """

    bottom: float
    top: float
    half_height: float

    @property
    def reach(self) -> float:
        return hypot(max(self.bottom, self.top), self.half_height)

    def _distance(self, origins: Columns, directions: Columns) -> PerRay:
        (ox, oy, oz), (dx, dy, dz) = origins.unbind(0), directions.unbind(0)
        flare = self._flare
        radius = (self.bottom + self.top) / 2 + flare * oz  # r at the height of the origin
        # x² + y² = r² on the ray: a·t² + 2·b·t + c = 0.
        a = dx.square() + dy.square() - (flare * dz).square()
        b = ox * dx + oy * dy - flare * radius * dz
        c = ox.square() + oy.square() - radius.square()
        root = (b.square() - a * c).clamp_min(0).sqrt()
        # Of the two forms of a root, those that subtract nothing; finite for a = 0 too.
        q = b + torch.where(b < 0, -root, root)
        sides = torch.stack([-q / _not_zero(a), -c / _not_zero(q)])
        heights = (oz + sides * dz).abs()
        real = b.square() >= a * c
        sides = sides.masked_fill(~real | (heights > self.half_height) | (sides <= 0), torch.inf)
        ends = oz.new_tensor([[-self.half_height], [self.half_height]])
        caps = (ends - oz) / _not_zero(dz)
        spread = (ox + caps * dx).square() + (oy + caps * dy).square()
        radii = oz.new_tensor([[self.bottom], [self.top]])
        caps = caps.masked_fill((spread > radii.square()) | (caps <= 0), torch.inf)
        return torch.cat([sides, caps]).amin(0)

    def _normals(self, points: Columns) -> Columns:
        x, y, z = points.unbind(0)
        across = torch.hypot(x, y)
        steep = (1 + self._flare**2) ** 0.5
        radius = (self.bottom + self.top) / 2 + self._flare * z
        outside = _not_zero(across * steep)
        side = torch.stack([x / outside, y / outside, torch.full_like(z, -self._flare / steep)])
        cap = torch.stack([torch.zeros_like(z), torch.zeros_like(z), z.sign()])
        on_cap = z.abs() - self.half_height > (across - radius) / steep
        return torch.where(on_cap, cap, side)

    @property
    def _flare(self) -> float:
        """dr/dz."""
        return (self.top - self.bottom) / (2 * self.half_height)


def _not_zero(values: Tensor) -> Tensor:
    return torch.where(values.abs() < _TINY, _TINY, values)
