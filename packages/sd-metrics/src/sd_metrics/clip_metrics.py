"""How well the views fit the prompt, as CLIP sees it: `clip-distance` and `clip-similarity`.

    c_v = cos(CLIP(view v), CLIP(prompt)),   similarity = 1/V·Σ_v c_v,   distance = 1 - similarity

The distance is ESD's (Wang et al. 2024, section 6), and USD's "CLIP"; the similarity is that of
the Bridge (McAllister et al. 2024, table 2), which gives it for ViT-L/14, ViT-B/16 and ViT-B/32.
Cosines of one CLIP say nothing about those of another: the recipe names the model.
"""

from typing import Any, ClassVar

from sd_core.config import Options, option
from sd_core.encoders.model_recipe import model_recipe
from sd_core.metric import MetricContext
from sd_core.shapes import Images
from sd_metrics.per_view import AbstractPerViewMetric, PerView, deviation
from sd_metrics.shared_models import shared_clip


class ClipOptions(Options):
    """Whose eyes."""

    model: str | None = option(
        None,
        "A CLIP with its tokenizer, a folder or an id of the hub: openai/clip-vit-base-patch16, "
        "openai/clip-vit-base-patch32. By default the one that suits the prior; for photographs "
        "openai/clip-vit-large-patch14.",
        min_length=1,
    )


class AbstractClipMetric(AbstractPerViewMetric):
    """Keeps the cosine of each view and the prompt."""

    def __init__(self, options: ClipOptions, context: MetricContext) -> None:
        super().__init__()
        self._clip = shared_clip(options.model or context.encoders.clip, context.device)

    def read(self, images: Images, prompt: str) -> PerView:
        text = self._clip.texts([prompt]).double()
        return self._clip.pictures(images).double() @ text.T

    def recipe(self) -> dict[str, Any]:
        return {"clip": model_recipe(self._clip.model)}


class ClipDistance(AbstractClipMetric):
    """clip-distance    1 minus the mean cosine of the views and the prompt, 0 to 2"""

    higher_is_better: ClassVar[bool | None] = False

    def compute(self) -> dict[str, float]:
        return {"clip-distance": 1 - float(self.views().mean())}

    def deviations(self) -> dict[str, float]:
        spread = deviation(self.views()[:, 0])
        return {} if spread is None else {"clip-distance": spread}


class ClipSimilarity(AbstractClipMetric):
    """clip-similarity    the mean cosine of the views and the prompt, -1 to 1"""

    higher_is_better: ClassVar[bool | None] = True

    def compute(self) -> dict[str, float]:
        return {"clip-similarity": float(self.views().mean())}

    def deviations(self) -> dict[str, float]:
        spread = deviation(self.views()[:, 0])
        return {} if spread is None else {"clip-similarity": spread}
