"""ESD's inception scores of one object: the metrics `iq`, `iv` and `ig`.

Wang et al. 2024 (Entropic Score Distillation), section 6. The formulas are in `entropies.py`. They
are three metrics, as low is better in one and high in the others; they share one classifier.
"""

import math
from typing import Any, ClassVar

from sd_core.entropy import entropies, entropy_of_mean
from sd_core.errors import ConfigError
from sd_core.metric import MetricContext
from sd_core.shapes import Images
from sd_metrics.classifiers import ClassifierOptions, build_classifier
from sd_metrics.entropies import information_gain, mean_entropy
from sd_metrics.per_view import AbstractPerViewMetric, PerView, deviation


class AbstractInceptionMetric(AbstractPerViewMetric):
    """Keeps the classifier's probabilities of each view."""

    def __init__(self, options: ClassifierOptions, context: MetricContext) -> None:
        super().__init__()
        self._classifier = build_classifier(options, context)

    def read(self, images: Images, prompt: str) -> PerView:
        return self._classifier.probabilities(images)

    def recipe(self) -> dict[str, Any]:
        return {**self._classifier.recipe(), "logarithm": "natural"}


class InceptionQuality(AbstractInceptionMetric):
    """iq    1/V·Σ_v H[p_v], nats: low where every view is clearly something"""

    higher_is_better: ClassVar[bool | None] = False

    def compute(self) -> dict[str, float]:
        return {"iq": mean_entropy(self.views())}

    def deviations(self) -> dict[str, float]:
        spread = deviation(entropies(self.views()))
        return {} if spread is None else {"iq": spread}


class InceptionVariety(AbstractInceptionMetric):
    """iv    H[1/V·Σ_v p_v], nats: high where the views are different things"""

    higher_is_better: ClassVar[bool | None] = True
    fewest: ClassVar[int] = 2

    def compute(self) -> dict[str, float]:
        return {"iv": entropy_of_mean(self.views())}


class InceptionGain(AbstractInceptionMetric):
    """ig    (IV - IQ)/IQ of this object: how much one learns by which view it is

    Of several objects the mean of their gains is what the paper's table 1 shows; it is not the
    gain of the mean IQ and IV. IQ near 0 makes it as large as one likes.
    """

    higher_is_better: ClassVar[bool | None] = True
    fewest: ClassVar[int] = 2

    def compute(self) -> dict[str, float]:
        views = self.views()
        gain = information_gain(mean_entropy(views), entropy_of_mean(views))
        if not math.isfinite(gain):
            raise ConfigError(
                "the classifier is certain of every view, so IQ is 0 and (IV - IQ)/IQ has no "
                "value. Read iv instead, or name a classifier of finer classes: "
                "--set METRIC.classifier=..."
            )
        return {"ig": gain}
