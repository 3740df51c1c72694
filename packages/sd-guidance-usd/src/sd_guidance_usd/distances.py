"""All distances of two sets of points, whose gradient costs two matrix products."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Points = Float[Tensor, "points width"]
OtherPoints = Float[Tensor, "others width"]
Distances = Float[Tensor, "points others"]


def distances(points: Points, others: OtherPoints) -> Distances:
    """d_ij = ‖p_i - q_j‖₂. Differentiable once; where d_ij = 0 the slope is 0.

    Distances are summed up difference by difference: |p|² - 2pq + |q|² would round small ones away.
    Of the gradient that is no danger. With h_ij = g_ij/d_ij, that of p_i is
    Σ_j h_ij·(p_i - q_j) = (Σ_j h_ij)·p_i - Σ_j h_ij·q_j, while torch.cdist goes through all
    differences again; most g are next to nothing after a sharp softmax, and such numbers are slow.
    """
    found: Distances = _Distances.apply(points, others)  # type: ignore[no-untyped-call]
    return found


class _Distances(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, points: Points, others: OtherPoints) -> Distances:
        found = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")
        context.save_for_backward(points, others, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Distances) -> tuple[Points | None, OtherPoints | None]:
        points, others, found = context.saved_tensors
        share = torch.where(found > 0, slope / found, 0)
        middle = others.mean(dim=0)  # which cancels, and leaves less to round
        points, others = points - middle, others - middle
        of_points, of_others = context.needs_input_grad
        return (
            share.sum(dim=1, keepdim=True) * points - share @ others if of_points else None,
            share.sum(dim=0)[:, None] * others - share.T @ points if of_others else None,
        )
