"""How well the views fit the prompt, as CLIP sees it: `clip-distance` and `clip-similarity`.

    c_v = cos(CLIP(view v), CLIP(prompt)),   similarity = 1/V·Σ_v c_v,   distance = 1 - similarity

The distance is ESD's (Wang et al. 2024, section 6), and USD's "CLIP"; the similarity is that of
the Bridge (McAllister et al. 2024, table 2), which gives it for ViT-L/14, ViT-B/16 and ViT-B/32.
Cosines of one CLIP say nothing about those of another: the recipe names the model.
"""

from pathlib import PurePath
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sd_core.config import Options, option
from sd_core.encoders.clip import Clip
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


class ClipDistance(AbstractPerViewMetric):
    """clip-distance    1 minus the mean cosine of the views and the prompt, 0 to 2"""

    higher_is_better: ClassVar[bool | None] = False

    def __init__(self, options: ClipOptions, context: MetricContext) -> None:
        super().__init__()
        self._clip = shared_clip(options.model or context.encoders.clip, context.device)

    def read(self, images: Images, prompt: str) -> PerView:
        return _cosines(self._clip, images, prompt)

    def compute(self) -> dict[str, float]:
        return {"clip-distance": 1 - float(self.views().mean())}

    def deviations(self) -> dict[str, float]:
        spread = deviation(self.views()[:, 0])
        return {} if spread is None else {"clip-distance": spread}

    def recipe(self) -> dict[str, Any]:
        return {"clip": model_recipe(self._clip.model)}


class SimilarityOptions(Options):
    """Whose eyes."""

    model: str | tuple[str, ...] | None = option(
        None,
        "A CLIP with its tokenizer, a folder or an id of the hub, or a list of them, for a number "
        "of each. By default the one that suits the prior.",
        min_length=1,
    )


class ClipSimilarity(AbstractPerViewMetric):
    """clip-similarity    the mean cosine of the views and the prompt, -1 to 1; of several models
    clip-similarity-MODEL of each
    """

    higher_is_better: ClassVar[bool | None] = True

    def __init__(self, options: SimilarityOptions, context: MetricContext) -> None:
        super().__init__()
        told = options.model or context.encoders.clip
        models = dict.fromkeys([told] if isinstance(told, str) else told)
        self._clips = [shared_clip(model, context.device) for model in models]
        self._names = _value_names("clip-similarity", list(models))

    def read(self, images: Images, prompt: str) -> PerView:
        return torch.cat([_cosines(clip, images, prompt) for clip in self._clips], dim=1)

    def compute(self) -> dict[str, float]:
        return dict(zip(self._names, self.views().mean(dim=0).tolist(), strict=True))

    def deviations(self) -> dict[str, float]:
        spreads = [deviation(own) for own in self.views().T]
        told = zip(self._names, spreads, strict=True)
        return {name: spread for name, spread in told if spread is not None}

    def recipe(self) -> dict[str, Any]:
        told = [model_recipe(clip.model) for clip in self._clips]
        return {"clip": told[0] if len(told) == 1 else told}


def _cosines(clip: Clip, images: Images, prompt: str) -> Float[Tensor, "views 1"]:
    return clip.pictures(images).double() @ clip.texts([prompt]).double().T


def _value_names(metric: str, models: list[str]) -> list[str]:
    """With the last part of each model's folder or id, if that tells them apart."""
    if len(models) == 1:
        return [metric]
    short = [PurePath(model).name for model in models]
    return [f"{metric}-{name}" for name in (models if len(set(short)) < len(short) else short)]
