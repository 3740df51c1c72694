"""Entropies of class probabilities, in nats (natural logarithm), in float64."""

import torch
from jaxtyping import Float
from torch import Tensor

# One row for each view; each sums to 1.
ClassProbabilities = Float[Tensor, "views classes"]


def entropies(probabilities: ClassProbabilities) -> Float[Tensor, " views"]:
    """H[p] = -Σ_c p_c·ln p_c of each row, with 0·ln 0 = 0."""
    p = probabilities.double()
    return -torch.xlogy(p, p).sum(dim=1) + 0.0  # + 0.0 makes -0.0 zero


def entropy_of_mean(probabilities: ClassProbabilities) -> float:
    """H[1/V·Σ_v p_v]: ESD's IV (eq. 11), USD's cEnt and pEnt.

    USD's eq. 33 prints 1/n_c·Σ p̄_i·log p̄_i, which is never positive and at most ln(n_c)/n_c in
    size, less than its own table 1. This is the plain entropy.
    """
    return float(entropies(probabilities.double().mean(dim=0, keepdim=True)))
