"""The kernel distance of two sets of features, the number that KID is (Bińkowski et al. 2018)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from sd_core.errors import ConfigError
from sd_metrics.moments import PictureFeatures


@dataclass(frozen=True)
class SubsetMean:
    """The mean over subsets and its standard deviation, over all subsets (n, not n - 1)."""

    mean: float
    deviation: float


def polynomial_kernel(
    first: Float[Tensor, "some features"], second: Float[Tensor, "others features"]
) -> Float[Tensor, "some others"]:
    """k(x, y) = (x·y/d + 1)³ for features of width d (section 4)."""
    return (first @ second.T / first.shape[1] + 1) ** 3


def kernel_distance(
    first: Float[Tensor, "some features"], second: Float[Tensor, "others features"]
) -> float:
    """Σ_{i≠j} k(x_i, x_j)/(n(n-1)) + Σ_{i≠j} k(y_i, y_j)/(m(m-1)) - 2·Σ_{ij} k(x_i, y_j)/(nm)

    The estimate of MMD² without bias for any n and m, so that it is below 0 now and then where the
    sets are alike (Gretton et al. 2012, eq. 3). In float64.
    """
    if min(len(first), len(second)) < 2:
        raise ConfigError(
            f"{len(first)} and {len(second)} pictures have no kernel distance, expected two or "
            "more of each. Judge more views, or let a reference have more pictures."
        )
    x, y = (each.detach().to("cpu", torch.float64) for each in (first, second))
    across = polynomial_kernel(x, y).mean()
    return float(_mean_of_pairs(x) + _mean_of_pairs(y) - 2 * across)


def kernel_distance_in_subsets(
    first: PictureFeatures,
    second: Float[Tensor, "others features"],
    *,
    subsets: int,
    size: int,
    generator: Generator,
) -> SubsetMean:
    """MMD² of `subsets` draws of `size` pictures of each set, without replacement within a draw."""
    fewest = min(len(first), len(second))
    if size > fewest:
        raise ConfigError(
            f"a subset has {size} pictures, but of the {len(first)} pictures and {len(second)} of "
            f"the reference it can have {fewest} at most. Set subset_size to {fewest} or less."
        )
    distances = torch.tensor(
        [
            kernel_distance(_draw(first, size, generator), _draw(second, size, generator))
            for _ in range(subsets)
        ],
        dtype=torch.float64,
    )
    return SubsetMean(float(distances.mean()), float(distances.std(correction=0)))


def _mean_of_pairs(features: Float[Tensor, "some features"]) -> Float[Tensor, ""]:
    """Σ_{i≠j} k(x_i, x_j)/(n(n-1))"""
    kernel = polynomial_kernel(features, features)
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))


def _draw(
    features: Float[Tensor, "some features"], size: int, generator: Generator
) -> Float[Tensor, "drawn features"]:
    return features[torch.randperm(len(features), generator=generator)[:size]]
