"""The rectifier r(x_t): how much rarer what x_t shows is than it is wanted."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sd_core.errors import ConfigError
from sd_core.shapes import PerSample

# For each sample, the probability of each class; rows sum to one.
Probabilities = Float[Tensor, "batch classes"]
LogProbabilities = Float[Tensor, "batch classes"]  # exact where the probability itself is 0
Shares = Float[Tensor, " classes"]

# A class that has not been seen for long must not count for infinitely much.
LEAST_SHARE = 1e-6


def log_rectifier(
    log_probabilities: LogProbabilities, marginal: Probabilities, wanted: Shares
) -> PerSample:
    """log r = log Σ_c f(c)/p̄_t(c)·p(c|x_t). f is `wanted`, p̄ `marginal` at each sample's t.

    With the exact p_t(c) and p(c|x_t), p_t·r is the density Σ_c f(c)·p_t(x_t|c): the same views,
    each class as often as wanted.
    """
    weights = wanted.log() - marginal.clamp(min=LEAST_SHARE).log()
    return (log_probabilities + weights).logsumexp(dim=1)


def with_shares(log_equal: LogProbabilities, shares: Probabilities) -> LogProbabilities:
    """log p(c|x_t) by Bayes' rule, p ∝ p̄_t(c)·q(c|x_t), from q with every class as frequent as any.

    Then log r = log Σ_c f(c)·q(c|x_t) - log Σ_c p̄_t(c)·q(c|x_t).
    """
    return (log_equal + shares.clamp(min=LEAST_SHARE).log()).log_softmax(dim=1)


def log_control(log_probabilities: LogProbabilities, only: Shares) -> PerSample:
    """log r = log Σ_c p(c|x_t) over the classes where `only` is not 0 (App. C.5)."""
    return log_probabilities[:, only > 0].logsumexp(dim=1)


def wanted_shares(
    classes: Sequence[str], wanted: Mapping[str, float], only: Iterable[str]
) -> Shares:
    """f, which sums to one: as told, or all alike; with `only`, those alike and no others."""
    told = {name: 1.0 for name in only} or dict(wanted) or {name: 1.0 for name in classes}
    for name, share in told.items():
        if name not in classes or share < 0:
            told_as = f"only has '{name}'" if only else f"wanted has '{name}' with {share:g}"
            raise ConfigError(
                f"guidance.{told_as}, but the classifier's classes are {', '.join(classes)}. "
                f"{'Name some of those' if only else 'Give those shares of at least 0'}."
            )
    shares = torch.tensor([told.get(name, 0.0) for name in classes])
    if not shares.any():
        raise ConfigError("guidance.wanted is 0 for every class. Want at least one of them.")
    return shares / shares.sum()
