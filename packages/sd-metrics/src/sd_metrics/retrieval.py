"""Whether the views can be told from other prompts' by their own: the metric `clip-r-precision`.

Of each view the nearest text, by CLIP's cosine, among a list of prompts; the share of the views
whose nearest is their own prompt (Jain et al. 2022, Dream Fields; Poole et al. 2022, DreamFusion).
The list decides how hard that is: chance is 1/texts, and shares of two lists cannot be compared.
"""

import hashlib
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from sd_core.config import option
from sd_core.encoders.model_recipe import model_recipe
from sd_core.errors import ConfigError
from sd_core.metric import MetricContext
from sd_core.shapes import Images
from sd_metrics.clip_metrics import ClipOptions
from sd_metrics.per_view import AbstractPerViewMetric, PerView
from sd_metrics.prompt_lists import prompts_of
from sd_metrics.shared_models import shared_clip


class RetrievalOptions(ClipOptions):
    """Whose eyes, and among which texts."""

    prompts: str | None = option(
        None,
        "A text file with one prompt a line, or usd-table-7. The object's own is added where it "
        "is not among them.",
        min_length=1,
    )


def is_retrieved(cosines: PerView) -> Bool[Tensor, " views"]:
    """Whether the first text, the own one, is nearer to a view than every other.

    As near as another is not enough: nothing tells the two apart.
    """
    return cosines[:, 0] > cosines[:, 1:].amax(dim=1)


class ClipRPrecision(AbstractPerViewMetric):
    """Of one object; over several objects their mean is what papers show.

    clip-r-precision          the share of its views whose nearest text is its own prompt
    clip-r-precision-object   1 or 0, by the mean cosine over its views
    """

    higher_is_better: ClassVar[bool | None] = True

    def __init__(self, options: RetrievalOptions, context: MetricContext) -> None:
        if options.prompts is None:
            raise ConfigError(
                "clip-r-precision.prompts names no file, and a view is told from other prompts. "
                "Name a text file with one prompt a line: --set clip-r-precision.prompts=FILE."
            )
        super().__init__()
        self._path, self._prompts = options.prompts, prompts_of(options.prompts)
        self._clip = shared_clip(options.model or context.encoders.clip, context.device)
        self._texts = self._clip.texts(self._prompts).double()
        # Of the last object, for the recipe; no measurement.
        self._own_is_listed: bool | None = None

    def read(self, images: Images, prompt: str) -> PerView:
        """The cosines of the own prompt, then of all others."""
        own = prompt.strip()
        others = torch.tensor([text != own for text in self._prompts])
        if not bool(others.any()):
            raise ConfigError(
                f"clip-r-precision.prompts '{self._path}' has no other prompt than '{own}', which "
                "is then always the nearest. Write several, one a line."
            )
        self._own_is_listed = not bool(others.all())
        texts = torch.cat([self._clip.texts([own]).double(), self._texts[others]])
        return self._clip.pictures(images).double() @ texts.T

    def compute(self) -> dict[str, float]:
        cosines = self.views()
        return {
            "clip-r-precision": float(is_retrieved(cosines).double().mean()),
            "clip-r-precision-object": float(is_retrieved(cosines.mean(dim=0, keepdim=True))[0]),
        }

    def recipe(self) -> dict[str, Any]:
        listed = "\n".join(self._prompts)
        own = {None: "not looked for yet", True: "in the list", False: "added to the list"}
        return {
            "clip": model_recipe(self._clip.model),
            "texts": len(self._prompts) + (self._own_is_listed is False),
            "list_sha256": hashlib.sha256(listed.encode()).hexdigest()[:16],
            "own_prompt": own[self._own_is_listed],
        }
