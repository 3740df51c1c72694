"""Which texel of a texture belongs to which triangle, and where in it; without a graphics card."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from sd_render.export.triangle_mesh import Faces

# Texels whose centre is this near a triangle, in texels, belong to it where no other holds them:
# a bilinear look-up at its rim reads them, and a chart thinner than a texel has no others.
RIM = 0.75
CANDIDATES_AT_ONCE = 2**20
# In texels².
LEAST_AREA = 1e-12

Corners = Float[np.ndarray, "faces 3 2"]


@dataclass(frozen=True, eq=False)
class Texels:
    """Covered texels (row 0 is the texture's top), the triangle of each, and barycentrics there."""

    rows: Int[np.ndarray, " texels"]
    columns: Int[np.ndarray, " texels"]
    faces: Int[np.ndarray, " texels"]
    weights: Float[np.ndarray, "texels 3"]

    def interpolate(
        self, values: Float[np.ndarray, "vertices 3"], faces: Faces
    ) -> Float[np.ndarray, "texels 3"]:
        """Σ_k weight_k·value_k of the triangle's corners."""
        mixed: np.ndarray = np.einsum("tk,tki->ti", self.weights, values[faces[self.faces]])
        return mixed


def covered_texels(uv: Float[np.ndarray, "vertices 2"], faces: Faces, size: int) -> Texels:
    """The texels of a size × size texture that triangles cover; row i, column j has its centre at
    u = (j + 1/2)/size, v = 1 - (i + 1/2)/size.

    A texel near several triangles belongs to the one that it is deepest inside, or the least far
    from; outside its triangle it gets the barycentrics of the triangle's nearest point.
    """
    corners = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)[faces] * size - 0.5
    depth = np.full(size * size, -RIM)
    owner = np.full(size * size, -1, dtype=np.int64)
    weights = np.zeros((size * size, 3))
    for start, end in _portions(corners, size):
        face, column, row = _candidates(corners, start, end, size)
        inside, mixed = _depth_and_weights(corners[face], np.stack([column, row], axis=1))
        texel = row * size + column
        deeper = np.flatnonzero(inside > depth[texel])[::-1]
        # Of equal texels the last is written: the deepest, and the first triangle of these.
        order = deeper[np.argsort(inside[deeper], kind="stable")]
        depth[texel[order]] = inside[order]
        owner[texel[order]] = face[order]
        weights[texel[order]] = mixed[order]
    covered = np.flatnonzero(owner >= 0)
    return Texels(covered // size, covered % size, owner[covered], weights[covered])


def spread(
    picture: Shaped[np.ndarray, "rows columns channels"], covered: Bool[np.ndarray, "rows columns"]
) -> Shaped[np.ndarray, "rows columns channels"]:
    """Every texel that nothing covers takes the colour of the nearest that something does."""
    from scipy.ndimage import distance_transform_edt  # type: ignore[import-untyped]

    rows, columns = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    filled: np.ndarray = picture[rows, columns]
    return filled


def _boxes(corners: Corners, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First texel and number of texels along both axes, of the box round each triangle's rim."""
    low = np.clip(np.ceil(corners.min(axis=1) - RIM), 0, size).astype(np.int64)
    high = np.clip(np.floor(corners.max(axis=1) + RIM), -1, size - 1).astype(np.int64)
    return low, np.maximum(high - low + 1, 0)


def _portions(corners: Corners, size: int) -> list[tuple[int, int]]:
    """Runs of triangles with about CANDIDATES_AT_ONCE texels in their boxes."""
    total = _boxes(corners, size)[1].prod(axis=1).cumsum()
    cuts = np.flatnonzero(np.diff(total // CANDIDATES_AT_ONCE)) + 1
    ends = [0, *cuts.tolist(), len(corners)]
    return list(pairwise(ends))


def _candidates(
    corners: Corners, start: int, end: int, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All texels in the boxes of the triangles from `start` to `end`: triangle, column, row."""
    low, counts = _boxes(corners[start:end], size)
    per_face = counts.prod(axis=1)
    face = np.repeat(np.arange(end - start), per_face)
    within = np.arange(len(face)) - np.repeat(per_face.cumsum() - per_face, per_face)
    column = low[face, 0] + within % counts[face, 0]
    row = low[face, 1] + within // counts[face, 0]
    return face + start, column, row


def _depth_and_weights(
    corners: Float[np.ndarray, "texels 3 2"], points: Int[np.ndarray, "texels 2"]
) -> tuple[Float[np.ndarray, " texels"], Float[np.ndarray, "texels 3"]]:
    """How far inside its triangle each point is, in texels (outside: below 0), and barycentrics.

    Edge e_k lies opposite corner k, and b_k = e_k × (p - its start)/(twice the area). Outside,
    those of the nearest point of the triangle: 1 - t and t on the edge that it is on.
    """
    start, end = np.roll(corners, -1, axis=1), np.roll(corners, -2, axis=1)
    edge, offset = end - start, points[:, None] - start
    cross = edge[..., 0] * offset[..., 1] - edge[..., 1] * offset[..., 0]
    twice_area = cross.sum(axis=1, keepdims=True)
    # A triangle without area has no inside, but edges all the same.
    twice_area[np.abs(twice_area) < LEAST_AREA] = np.inf
    inside = (cross / twice_area >= 0).all(axis=1) & np.isfinite(twice_area[:, 0])
    squared = np.maximum((edge**2).sum(axis=2), LEAST_AREA)
    share = np.clip((edge * offset).sum(axis=2) / squared, 0, 1)
    distance = np.linalg.norm(offset - share[..., None] * edge, axis=2)
    nearest, every = distance.argmin(axis=1), np.arange(len(points))
    least = distance[every, nearest]
    weights = np.where(inside[:, None], cross / twice_area, 0)
    out = ~inside
    along = share[every, nearest][out]
    weights[every[out], (nearest[out] + 1) % 3] = 1 - along
    weights[every[out], (nearest[out] + 2) % 3] = along
    return np.where(inside, least, -least), weights
