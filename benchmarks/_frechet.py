"""The Fréchet distance between two sets of features, for benchmarks that compare pictures."""

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(
    one: Float[Tensor, "samples features"], other: Float[Tensor, "others features"]
) -> float:
    """‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2·(Σ₁·Σ₂)^½), in float64.

    tr (Σ₁·Σ₂)^½ = Σᵢ √λᵢ with λ the eigenvalues of Σ₁^½·Σ₂·Σ₁^½, which is symmetric.
    """
    one, other = one.double(), other.double()
    first, second = one.T.cov(), other.T.cov()
    values, axes = torch.linalg.eigh(first)
    root = axes * values.clamp_min(0).sqrt() @ axes.T
    crossed = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    apart = (one.mean(0) - other.mean(0)).square().sum()
    return float(apart + first.trace() + second.trace() - 2 * crossed)
