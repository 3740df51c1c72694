"""How a method's gradient scatters over draws of its noise, where camera, scene and t stand still.

| letter | meaning                                                                            |
|--------|------------------------------------------------------------------------------------|
| g_k    | the gradient at draw k of K, one for each camera                                   |
| ḡ      | Σ_k g_k/K                                                                          |
| V      | Σ_k ‖g_k - ḡ‖²/(K - 1): the variance, E‖g - E g‖², summed over the values          |
| M      | ‖ḡ‖² - V/K: what is left of ‖ḡ‖² without its noise, so that E M = ‖E g‖²           |
| a, b   | the two terms of a residual, target and source: g = w·(a - b)                      |

V and M are means over the cameras. At most 2⁻⁵³ of a value is lost here: everything is float64.
"""

from dataclasses import dataclass
from math import nan

import torch
from jaxtyping import Float
from torch import Generator, Tensor

Draws = Float[Tensor, "draws cameras values"]
Gram = Float[Tensor, "draws draws"]

RESAMPLES = 1000
# A term that scatters less than this share of its length only shows the rounding of float32.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Spread:
    """What many draws of one gradient say.

    norm               mean of ‖g_k‖
    variance           V
    relative_variance  V/M; infinite where M ≤ 0: so few draws cannot tell E g from 0
    interval           95 % of it, from resampled draws; too narrow where draws are few
    cosine             mean of cos(g_k, the mean of the other draws); more draws raise it a little
    """

    norm: float
    variance: float
    relative_variance: float
    interval: tuple[float, float]
    cosine: float


def spread(draws: Draws, generator: Generator) -> Spread:
    """The scatter of at least two draws; NaN where there is nothing to compare with, as g = 0."""
    g = draws.double().cpu()
    count = len(g)
    others = (g.sum(0) - g) / (count - 1)
    scatter, gram = _gram(g - g.mean(0)), _gram(g)
    variance, length = _moments(scatter, gram, g.new_ones(1, count))
    resampled = _resampled_ratios(scatter, gram, generator)
    tail = len(resampled) // 40
    return Spread(
        norm=float(g.norm(dim=2).mean()),
        variance=float(variance),
        relative_variance=float(_ratio(variance, length - variance / count)),
        interval=(float(resampled[tail]), float(resampled[-1 - tail])),
        cosine=_mean_cosine(g, others),
    )


def correlation(target: Draws, source: Draws) -> float:
    """ρ = Σ (a - ā)·(b - b̄)/√(Σ‖a - ā‖²·Σ‖b - b̄‖²), ā and b̄ means over the draws, Σ over all.

    NaN where a term is the same at every draw. With ρ = 1 and equal lengths one takes all of the
    other's noise away: it is the control variate that it is said to be.
    """
    a, b = target.double().cpu(), source.double().cpu()
    off_a, off_b = a - a.mean(0), b - b.mean(0)
    if off_a.norm() <= ROUNDING * a.norm() or off_b.norm() <= ROUNDING * b.norm():
        return nan
    return float((off_a * off_b).sum() / (off_a.norm() * off_b.norm()))


def alignment(target: Draws, source: Draws) -> float:
    """Mean of a·b/(‖a‖·‖b‖): how alike the terms are at each draw, their means included."""
    return _mean_cosine(target.double().cpu(), source.double().cpu())


def _mean_cosine(one: Draws, other: Draws) -> float:
    return float(((one * other).sum(2) / (one.norm(dim=2) * other.norm(dim=2))).mean())


def _gram(values: Draws) -> Gram:
    """v_k·v_l, as the mean over the cameras."""
    return torch.einsum("kcd,lcd->kl", values, values) / values.shape[1]


def _moments(
    scatter: Gram, gram: Gram, counts: Float[Tensor, "samples draws"]
) -> tuple[Float[Tensor, " samples"], Float[Tensor, " samples"]]:
    """V and ‖ḡ‖² of samples in which draw k stands counts_k times, Σ_k counts_k = K."""
    size = len(gram)
    total = counts @ scatter.diagonal()
    within = torch.einsum("sk,kl,sl->s", counts, scatter, counts) / size
    length = torch.einsum("sk,kl,sl->s", counts, gram, counts) / size**2
    return (total - within) / (size - 1), length


def resampled_moments(
    scatter: Gram, gram: Gram, counts: Float[Tensor, "samples draws"]
) -> tuple[Float[Tensor, " samples"], Float[Tensor, " samples"]]:
    """V* and M* of samples of K draws out of K with replacement, whose means are V and M.

    As they are, E V* is only (K - 1)/K·V, and E‖ḡ*‖² = ‖ḡ‖² + (K - 1)/K²·V, where ‖ḡ‖² holds V/K
    of noise already. So V* ← K/(K - 1)·V*, and M* = ‖ḡ*‖² - (2K - 1)/K²·V*.
    """
    size = len(gram)
    variance, length = _moments(scatter, gram, counts)
    variance = variance * size / (size - 1)
    return variance, length - (2 * size - 1) / size**2 * variance


def _resampled_ratios(scatter: Gram, gram: Gram, generator: Generator) -> Float[Tensor, " samples"]:
    """V*/M*, in rising order."""
    size = len(gram)
    chosen = torch.randint(size, (RESAMPLES, size), generator=generator)
    counts = torch.zeros(RESAMPLES, size, dtype=gram.dtype)
    counts.scatter_add_(1, chosen, torch.ones_like(counts))
    return _ratio(*resampled_moments(scatter, gram, counts)).sort().values


def _ratio(
    variance: Float[Tensor, " samples"], squared_mean: Float[Tensor, " samples"]
) -> Float[Tensor, " samples"]:
    infinite = torch.where(variance > 0, torch.inf, torch.nan)
    return torch.where(squared_mean > 0, variance / squared_mean, infinite)
