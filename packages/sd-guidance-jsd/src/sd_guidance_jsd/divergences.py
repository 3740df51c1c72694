"""The divergences of the paper's sections 3.2 and 4, exact, of finite distributions.

p is the target and q what is generated, as in KL(q ‖ p) of SDS. All in nats, over the last axis,
which sums to 1. 0·log(0/x) = 0; what is divided by 0 is infinite.
"""

from math import log

import torch
from jaxtyping import Float
from torch import Tensor

Distribution = Float[Tensor, "*batch outcomes"]
Divergence = Float[Tensor, "*batch"]


def kullback_leibler(p: Distribution, q: Distribution) -> Divergence:
    """KL(p, q) = Σ p·log(p/q), eq. 3. Infinite where q = 0 < p."""
    return torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum(-1)


def jeffreys(p: Distribution, q: Distribution) -> Divergence:
    """J(p, q) = Σ [p·log(p/q) + q·log(q/p)] = KL(p, q) + KL(q, p).

    Eq. 4 prints q·log(p/q) in the second term, a misprint: that sum would be KL(p, q) − KL(q, p),
    which is not symmetric and may be negative.
    """
    return kullback_leibler(p, q) + kullback_leibler(q, p)


def jensen_shannon(p: Distribution, q: Distribution) -> Divergence:
    """JSD(p, q) = Σ [p·log(2p/(p + q)) + q·log(2q/(p + q))]/2, eq. 5. Between 0 and log 2."""
    middle = (p + q) / 2
    return (kullback_leibler(p, middle) + kullback_leibler(q, middle)) / 2


def geometric_jensen_shannon(p: Distribution, q: Distribution) -> Divergence:
    """[KL(p, G) + KL(q, G)]/2 with G = √(p·q)/Σ√(p·q): J(p, q)/4 + log Σ√(p·q). Unbounded.

    G is made to sum to 1 (Nielsen 2019). It is at least the JSD: of all distributions the mean
    (p + q)/2 has the least average KL from both. Without overlap there is no G; that it is infinite
    there is a convention, and not the limit along figure 8, which is log 2.
    """
    overlap = (p * q).sqrt().sum(-1)
    exact = jeffreys(p, q) / 4 + overlap.log()
    return torch.where(overlap > 0, exact, torch.inf)


def log_odds_objective(p: Distribution, q: Distribution) -> Divergence:
    """E_q[−log D], eq. 8, with D = c/(1 − c), eq. 9: the paper's approximation of the JSD.

    Eq. 9 calls c a classifier p(y|x) and leaves open which. Here it is c = p/(p + q), which tells
    the prior from the renders, not one text from another: the paper's "optimal". Then D = p/q, and
    this is KL(q, p), SDS's own objective: unbounded, and never below the JSD.
    """
    surprise = (q / (p + q)).log() - (p / (p + q)).log()  # 1 - c would round to 0 where q ≪ p
    return torch.where(q > 0, q * surprise, 0.0).sum(-1)


def optimal_discriminator_objective(p: Distribution, q: Distribution) -> Divergence:
    """E_q[−log D*] − log 2 with D* = p/(p + q), eq. 8 and 15: KL(q, p) − KL(q, (p + q)/2).

    The constant makes it 0 at p = q. Unbounded where p = 0 < q, and at most KL(q, p).
    """
    chance = (p / (p + q)).log()
    return torch.where(q > 0, -q * chance, 0.0).sum(-1) - log(2)
