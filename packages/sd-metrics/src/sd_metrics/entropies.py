"""Entropies of what a classifier says of several views, in nats (natural logarithm).

| letter | what                                                        | ESD (Wang et al. 2024) |
|--------|-------------------------------------------------------------|------------------------|
| p_v    | a row: the classifier's probabilities of view v, sum 1      | p_cls(y given g(θ, c)) |
| IQ     | 1/V·Σ_v H[p_v], low where every view is clearly something   | eq. 10                 |
| IV     | H[1/V·Σ_v p_v], high where views are different things       | eq. 11                 |
| IG     | (IV - IQ)/IQ, of one object, never of the means of several  | section 6              |

0 ≤ IQ ≤ IV ≤ ln C with C classes: the entropy is concave (Jensen). All is computed in float64.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

# One row for each view; each sums to 1.
Probabilities = Float[Tensor, "views classes"]


def entropies(probabilities: Probabilities) -> Float[Tensor, " views"]:
    """H[p] = -Σ_c p_c·ln p_c of each row, with 0·ln 0 = 0."""
    p = probabilities.double()
    return -torch.xlogy(p, p).sum(dim=1) + 0.0  # + 0.0 makes -0.0 zero


def mean_entropy(probabilities: Probabilities) -> float:
    """IQ: 1/V·Σ_v H[p_v], ESD's eq. 10."""
    return float(entropies(probabilities).mean())


def entropy_of_mean(probabilities: Probabilities) -> float:
    """IV: H[1/V·Σ_v p_v], ESD's eq. 11; also USD's cEnt and pEnt.

    USD's eq. 33 prints 1/n_c·Σ p̄_i·log p̄_i, which is never positive and at most ln(n_c)/n_c in
    size, less than its own table 1. This is the plain entropy.
    """
    return float(entropies(probabilities.double().mean(dim=0, keepdim=True)))


def information_gain(quality: float, variety: float) -> float:
    """IG = (IV - IQ)/IQ: 0 for views that are alike, without an upper limit.

    It is infinite where every view is certain (IQ = 0) and not all are the same (IV > 0), and 0
    where all are. IV is never less than IQ but for rounding, which counts as 0.
    """
    gained = max(variety - quality, 0.0)
    if quality == 0:
        return math.inf if gained else 0.0
    return gained / quality
