"""Which of several texts fits a picture best, as CLIP sees it: the classifier of any words."""

from collections.abc import Mapping

import torch

from sd_core.encoders.clip import Clip
from sd_core.errors import ConfigError
from sd_core.shapes import Images
from sd_guidance_usd.rectifier import LogProbabilities

_REMEDY = (
    "Change guidance.classifier.phrases, leave the prompt out of them with "
    "guidance.classifier.whole_phrases = true, or name another guidance.classifier.model."
)


class TextClassifier:
    """p(c|x) = softmax_c(s·cos(v(x), u_c)): zero-shot CLIP, Radford et al. 2021, section 3.1.2.

    v is CLIP's embedding of the picture, u_c that of the text of class c, and s what the model
    has learned for this softmax (100 in OpenAI's), or 1/τ with `temperature` τ. RecDreamer's
    figure 15 balances male and female so, and its metric cEnt tells poses apart (appendix C.1).

    Texts are encoded once, here; then their encoder is dropped.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        model: str,
        *,
        device: torch.device,
        size: int | None = None,
        temperature: float | None = None,
    ) -> None:
        self.classes = tuple(texts)
        if len(self.classes) < 2:
            raise ConfigError(
                f"guidance.classifier.phrases has {len(self.classes)} classes, of which one is "
                "always certain. Give two or more."
            )
        self._clip = Clip(model, device=device, size=size, remedy=_REMEDY)
        self._texts = self._clip.texts(list(texts.values()))
        self._clip.forget_texts()
        self._scale = 1 / temperature if temperature else self._clip.scale

    def log_probabilities(self, images: Images) -> LogProbabilities:
        cosines = self._clip.pictures(images) @ self._texts.T
        return (self._scale * cosines).log_softmax(dim=1)
