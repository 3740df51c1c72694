"""Whether the views show several poses, by the texts that fit them: the metric `clip-entropy`.

    p̄ = 1/V·Σ_v softmax_k(s·cos(v, "PROMPT, words of pose k")),   H[p̄] = -Σ_k p̄_k·ln p̄_k

cEnt of RecDreamer (Zheng et al. 2025), section 4.2 and appendix C.1; eq. 33 is printed with another
factor and sign (see `entropy_of_mean`). With three poses at most ln 3 = 1.0986: their table 1 has
1.0136 to 1.0375. They took 10 views.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from sd_core.encoders.model_recipe import model_recipe
from sd_core.entropy import entropy_of_mean
from sd_core.errors import ConfigError
from sd_core.metric import MetricContext
from sd_core.shapes import Images
from sd_metrics.classifiers import TextsClassifier
from sd_metrics.clip_metrics import ClipOptions
from sd_metrics.per_view import AbstractPerViewMetric, PerView
from sd_metrics.shared_models import shared_clip


def pose_texts(prompt: str, poses: Sequence[str]) -> tuple[str, ...]:
    """The prompt with each pose's words after a comma: "a bear, from front view"."""
    return tuple(f"{prompt}, {words}" for words in poses)


class ClipEntropy(AbstractPerViewMetric):
    """clip-entropy    0 if all views show one pose, ln 3 if the three poses have equal shares"""

    higher_is_better: ClassVar[bool | None] = True
    fewest: ClassVar[int] = 2

    def __init__(self, options: ClipOptions, context: MetricContext) -> None:
        super().__init__()
        self._poses = context.encoders.poses
        if len(self._poses) < 2:
            raise ConfigError(
                f"the prior has words for {len(self._poses)} poses, expected two or more. "
                "Evaluate without clip-entropy."
            )
        self._clip = shared_clip(options.model or context.encoders.clip, context.device)

    def read(self, images: Images, prompt: str) -> PerView:
        return TextsClassifier(pose_texts(prompt, self._poses), self._clip).probabilities(images)

    def compute(self) -> dict[str, float]:
        return {"clip-entropy": entropy_of_mean(self.views())}

    def recipe(self) -> dict[str, Any]:
        return {
            "clip": model_recipe(self._clip.model),
            "texts": list(pose_texts("PROMPT", self._poses)),
            "maximum": math.log(len(self._poses)),
        }
