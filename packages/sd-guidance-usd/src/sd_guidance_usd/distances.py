"""All distances of two sets of points by matrix products, forwards and backwards."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Points = Float[Tensor, "points width"]
OtherPoints = Float[Tensor, "others width"]
Distances = Float[Tensor, "points others"]

# Of d² beside |p|² + |q|²: below it rounding is all that is left.
NEXT_TO_NOTHING = 1e-14


def distances(points: Points, others: OtherPoints) -> Distances:
    """d_ij = ‖p_i - q_j‖₂. Differentiable once; where d_ij = 0 the slope is 0.

    d² = |p|² - 2pq + |q|², in float64 and around the mean of q: small distances would otherwise be
    rounded away. With h_ij = g_ij/d_ij the gradient of p_i is
    Σ_j h_ij·(p_i - q_j) = (Σ_j h_ij)·p_i - Σ_j h_ij·q_j. torch.cdist goes through all differences
    one by one, forwards and backwards, which takes several times as long.
    """
    found: Distances = _Distances.apply(points, others)  # type: ignore[no-untyped-call]
    return found


class _Distances(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, points: Points, others: OtherPoints) -> Distances:
        middle = others.mean(dim=0)
        points, others = points - middle, others - middle
        fine, other_fine = points.double(), others.double()
        together = fine.square().sum(dim=1)[:, None] + other_fine.square().sum(dim=1)
        squares = torch.addmm(together, fine, other_fine.T, alpha=-2)
        squares = torch.where(squares > NEXT_TO_NOTHING * together, squares, 0)
        found = squares.sqrt().to(points)
        context.save_for_backward(points, others, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Distances) -> tuple[Points | None, OtherPoints | None]:
        points, others, found = context.saved_tensors
        share = torch.where(found > 0, slope / found, 0)
        of_points, of_others = context.needs_input_grad
        return (
            share.sum(dim=1, keepdim=True) * points - share @ others if of_points else None,
            share.sum(dim=0)[:, None] * others - share.T @ points if of_others else None,
        )
