"""The Fréchet distance of two Gaussians, the number that FID is (Heusel et al. 2017)."""

import torch
from jaxtyping import Float
from torch import Tensor

from sd_metrics.moments import Moments


def frechet_distance(one: Moments, other: Moments) -> float:
    """d² = |m₁ - m₂|² + tr S₁ + tr S₂ - 2·tr (S₁S₂)^(1/2) (Dowson and Landau 1982).

    With S = AAᵀ, the eigenvalues of S₁S₂ are those of A₁ᵀA₂(A₁ᵀA₂)ᵀ, so that the last trace is the
    sum of the singular values of A₁ᵀA₂: real and finite for covariances of any rank, where a matrix
    square root may be neither. Never below 0. The units are those of squared features.
    """
    first, second = one.covariance, other.covariance
    overlap = torch.linalg.svdvals(_factor(first).T @ _factor(second)).sum()
    squared = (one.mean - other.mean).square().sum() + first.trace() + second.trace() - 2 * overlap
    return max(0.0, float(squared))


def bias_warning(count: int, reference: int, width: int) -> str | None:
    """What to know of a Fréchet distance between so many pictures.

    None where both sets have more than ten pictures for each feature.

    With no more pictures than features the covariances are singular, and beyond that the distance
    is too large by about 1/n (Chong and Forsyth 2020). FID's usual 50,000 pictures are 24 for each
    feature.
    """
    if min(count, reference) > 10 * width:
        return None
    return (
        f"{count} pictures were compared with {reference} of the reference by {width} features: "
        "with so few the Fréchet distance is too large, and only distances of as many pictures can "
        "be compared. The metric kid has no such bias."
    )


def _factor(covariance: Float[Tensor, "width width"]) -> Float[Tensor, "width rank"]:
    """A with AAᵀ = S: eigenvectors times roots of eigenvalues, without those that are rounding."""
    values, vectors = torch.linalg.eigh(covariance)
    noise = values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    kept = values > noise
    factor: Tensor = vectors[:, kept] * values[kept].sqrt()
    return factor
