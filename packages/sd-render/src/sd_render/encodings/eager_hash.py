"""The hash grid in plain torch: the reference, and the one that differentiates twice."""

from itertools import product

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sd_render.encodings.hash_layout import PRIMES, HashLayout

Points = Float[Tensor, "points 3"]
Table = Float[Tensor, "entries features"]
Features = Float[Tensor, "points width"]
OfLevel = Float[Tensor, "points features"]
Vertices = Int64[Tensor, "low_high points 3"]


def encode(points: Points, table: Table, layout: HashLayout) -> Features:
    """Σ_c w_c(x)·table[entry(c)] over the eight corners c of x's cell, all levels side by side.

    w_c is the product over the axes of f or 1 - f, f = p - ⌊p⌋ (or its smoothstep). See
    `HashLayout` for p and for the entries. Points in [0, 1]³; in the table's precision.
    """
    levels = [_level(points, table, layout, level) for level in range(layout.levels)]
    return torch.cat(levels, dim=1)


def _level(points: Points, table: Table, layout: HashLayout, level: int) -> OfLevel:
    position = points * layout.scales[level] + 0.5
    vertex = position.detach().floor()
    along = position - vertex
    if layout.smooth:
        along = along * along * (3 - 2 * along)
    weights = torch.stack([1 - along, along])
    terms = _terms(torch.stack([vertex, vertex + 1]).long(), layout, level)
    features = torch.zeros_like(table[:1])
    for corner in product((0, 1), repeat=3):  # (0, 1, 1): low in x, high in y and z
        x, y, z = (terms[side, :, axis] for axis, side in enumerate(corner))
        u, v, w = (weights[side, :, axis] for axis, side in enumerate(corner))
        entry = x + y + z if layout.dense[level] else (x ^ y ^ z) % layout.table
        value = table.index_select(0, entry + layout.offsets[level])
        features = features + (u * v * w)[:, None] * value
    return features


def _terms(vertices: Vertices, layout: HashLayout, level: int) -> Vertices:
    """What each axis contributes to an entry: summands of a dense level, else what is mixed."""
    if not layout.dense[level]:
        return vertices * torch.tensor(PRIMES, device=vertices.device)
    resolution = layout.resolutions[level]
    strides = torch.tensor([1, resolution, resolution**2], device=vertices.device)
    return vertices.clamp(0, resolution - 1) * strides
