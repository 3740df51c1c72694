"""Whether the views show several poses, by templates: the metric `matching-pose-entropy`.

    p̄ = 1/V·Σ_v p(c|view v),   H[p̄] = -Σ_c p̄_c·ln p̄_c

pEnt of RecDreamer, section 4.2 and appendix C.1, with its training-free classifier (`matching.py`).
They took 10 views. Front, a side, its mirror image and the back have at most ln 4 = 1.386; table 1
has 1.04 to 1.25.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import log
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Generator

from sd_core.cameras import CameraBatch
from sd_core.config import option
from sd_core.encoders.features import FeatureExtractor
from sd_core.encoders.model_recipe import model_recipe
from sd_core.encoders.pretrained import VISION_FILES
from sd_core.entropy import entropy_of_mean
from sd_core.errors import ConfigError
from sd_core.metric import AbstractMetric, MetricContext
from sd_core.shapes import Images
from sd_guidance_usd.matching import MatchingClassifier, MatchingOptions
from sd_guidance_usd.rectifier import Probabilities
from sd_guidance_usd.templates import Pictures, load_pictures, with_mirrored

NAME = "matching-pose-entropy"

# Views that the network sees at once, and the seed of the templates' disturbed copies.
_AT_ONCE, _SEED = 16, 0


class PoseEntropyOptions(MatchingOptions):
    """The classifier's, with the paper's values."""

    templates: str | None = option(
        None,
        "A folder with a picture of each class, front.png and so on; `score-distill templates` "
        "makes one.",
        min_length=1,
    )
    mirrored: tuple[str, ...] | None = option(
        None,
        "Templates that count the other way round, too, as the class mirrored_NAME. By default "
        "side, if there is one.",
    )


class MatchingPoseEntropy(AbstractMetric):
    """matching-pose-entropy    0 if all views show one pose, ln 4 if four have equal shares"""

    higher_is_better: ClassVar[bool | None] = True

    def __init__(self, options: PoseEntropyOptions, context: MetricContext) -> None:
        if options.templates is None:
            raise ConfigError(
                f"{NAME}.templates names no folder with a picture of each pose. Make one with "
                f"score-distill templates, and say where: --set {NAME}.templates=FOLDER."
            )
        device, self._model = context.device, options.model or context.encoders.features
        with _told_by_this_metric():
            self._pictures = load_pictures(Path(options.templates).expanduser())
            pictures = {name: picture.to(device) for name, picture in self._pictures.items()}
            templates = with_mirrored(pictures, options.mirrored)
        self._classifier = MatchingClassifier(
            templates,
            extractor=FeatureExtractor(self._model, device=device, size=options.size),
            options=options,
            generator=Generator(device).manual_seed(_SEED),
        )
        self.reset()

    def reset(self) -> None:
        self._prompt: str | None = None
        self._read: list[Probabilities] = []

    @torch.no_grad()
    def update(self, images: Images, prompt: str, cameras: CameraBatch | None) -> None:
        if self._prompt not in (None, prompt):
            raise ConfigError(
                f"the views are of '{self._prompt}' and of '{prompt}', expected one object. "
                "Reset the metric between two."
            )
        if images.shape[1] != 3 or not bool(images.isfinite().all()):
            raise ConfigError(
                f"the views have {images.shape[1]} channels, or values that are not finite, "
                "expected red, green and blue from 0 to 1. Look at the scene."
            )
        self._prompt = prompt
        for part in torch.split(images, _AT_ONCE):
            self._read.append(self._classifier(part).to("cpu", torch.float64))

    def compute(self) -> dict[str, float]:
        count = sum(map(len, self._read))
        if count < 2:
            raise ConfigError(
                f"there are {count} views of the object, expected 2 or more. Evaluate it with "
                "more views."
            )
        return {NAME: entropy_of_mean(torch.cat(self._read))}

    def recipe(self) -> dict[str, Any]:
        classes = self._classifier.classes
        return {
            "features": model_recipe(self._model, VISION_FILES),
            "classes": list(classes),
            "templates_sha256": _digest(self._pictures),
            "maximum": log(len(classes)),
        }


@contextmanager
def _told_by_this_metric() -> Iterator[None]:
    """Errors about templates name this metric's options instead of the guidance's."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(str(error).replace("guidance.classifier.", f"{NAME}.")) from None


def _digest(pictures: Pictures) -> str:
    """Of the templates' names and numbers, the first 16 digits."""
    digest = hashlib.sha256()
    for name, picture in pictures.items():
        digest.update(f"{name} {tuple(picture.shape)}\n".encode())
        digest.update(picture.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
