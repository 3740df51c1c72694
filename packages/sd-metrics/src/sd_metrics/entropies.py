"""ESD's inception scores, of what a classifier says of several views, in nats.

| letter | what                                                        | ESD (Wang et al. 2024) |
|--------|-------------------------------------------------------------|------------------------|
| p_v    | a row: the classifier's probabilities of view v, sum 1      | p_cls(y given g(θ, c)) |
| IQ     | 1/V·Σ_v H[p_v], low where every view is clearly something   | eq. 10                 |
| IV     | H[1/V·Σ_v p_v], high where views are different things       | eq. 11                 |
| IG     | (IV - IQ)/IQ, of one object, never of the means of several  | section 6              |

0 ≤ IQ ≤ IV ≤ ln C with C classes: the entropy is concave (Jensen). All is computed in float64.
"""

import math

from sd_core.entropy import ClassProbabilities, entropies


def mean_entropy(probabilities: ClassProbabilities) -> float:
    """IQ: 1/V·Σ_v H[p_v], ESD's eq. 10."""
    return float(entropies(probabilities).mean())


def information_gain(quality: float, variety: float) -> float:
    """IG = (IV - IQ)/IQ: 0 for views that are alike, without an upper limit.

    It is infinite where every view is certain (IQ = 0) and not all are the same (IV > 0), and 0
    where all are. IV is never less than IQ but for rounding, which counts as 0.
    """
    gained = max(variety - quality, 0.0)
    if quality == 0:
        return math.inf if gained else 0.0
    return gained / quality
