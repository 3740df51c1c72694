"""The icosphere as a graph: which vertices are next to each other, and averages over them."""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sd_core.cameras import icosphere

# How often an icosahedron's faces are split in four: 12, 42 and 162 vertices.
SUBDIVISIONS: Final = (0, 1, 2)

Vertices = Float[Tensor, "vertices 3"]
PerVertex = Float[Tensor, " vertices"]
Neighbours = Sequence[Sequence[int]]

# Of the shortest edge. For 0 to 3 subdivisions the longest edge is 1.19 of it, and two vertices
# without an edge are 1.61 apart or more.
_EDGE = 1.4


def vertices(subdivisions: int) -> Vertices:
    """Unit vectors, 10·4^n + 2 of them, in the order of `sd_core.cameras.icosphere_cameras`."""
    return icosphere(subdivisions)


def neighbours(points: Vertices) -> Neighbours:
    """Of each vertex the ones at the other end of its edges, in increasing order.

    Twelve vertices have five, those of the icosahedron, and all others six.
    """
    apart = (points[:, None] - points[None]).norm(dim=-1)
    apart.fill_diagonal_(torch.inf)
    near = apart < _EDGE * apart.min()
    return [torch.nonzero(row).flatten().tolist() for row in near]


def neighbour_average(values: PerVertex, near: Neighbours, rounds: int) -> PerVertex:
    """T3Bench's regional convolution (run_eval_quality.py), `rounds` times one after the other:

        v_i ← (v_i + Σ_{j ∈ N(i)} v_j)/(1 + |N(i)|)

    The vertex itself counts as much as each of its neighbours. Constants stay as they are. With
    many rounds all values go to Σ_i (1 + |N(i)|) v_i/Σ_i (1 + |N(i)|); on the twelve vertices they
    are nearly there after three: what is left of a difference is at most (1 + √5)³/6³ = 0.16.
    """
    around = [torch.tensor([i, *of], device=values.device) for i, of in enumerate(near)]
    for _ in range(rounds):
        values = torch.stack([values[each].mean() for each in around])
    return values


def nearest_vertices(
    directions: Float[Tensor, "batch 3"], points: Vertices
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Of each unit vector the vertex that is nearest, and how far from it, as a straight line."""
    apart = (directions[:, None] - points[None]).norm(dim=-1)
    distance, index = apart.min(dim=1)
    return index, distance
