"""What tells pictures apart: a trained classifier, or texts as CLIP sees them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Protocol, runtime_checkable
from weakref import WeakValueDictionary

import torch
from pydantic import model_validator
from torch import Tensor

from sd_core.config import Options, option
from sd_core.encoders.clip import Clip
from sd_core.encoders.model_recipe import model_recipe
from sd_core.encoders.pretrained import (
    VISION_FILES,
    PictureInput,
    cannot_load,
    folder_of,
    load_network,
)
from sd_core.entropy import ClassProbabilities
from sd_core.errors import ConfigError
from sd_core.metric import MetricContext
from sd_core.shapes import Images
from sd_metrics.extractors import InceptionEncoder
from sd_metrics.inception import CLASSES
from sd_metrics.shared_models import shared_clip

# Where a classifier's files name no size: that of ImageNet's networks.
_USUAL_SIZE = 224


@runtime_checkable
class PictureClassifier(Protocol):
    """Probabilities of pictures in [0, 1], in float64."""

    def probabilities(self, images: Images) -> ClassProbabilities: ...

    def recipe(self) -> dict[str, Any]:
        """Which model it is, and how many classes it has."""
        ...


class ClassifierOptions(Options):
    """Who says what a view shows."""

    classifier: str | None = option(
        None,
        "A classifier of pictures of transformers, a folder or an id of the hub. By default the "
        "one that suits the prior; for photographs microsoft/resnet-50.",
        min_length=1,
    )
    weights: str | None = option(
        None,
        "File with the weights of Inception, as the papers have it: pytorch-fid's "
        "pt_inception-2015-12-05-6726825d.pth.",
        min_length=1,
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "ClassifierOptions":
        if self.weights is not None and self.classifier is not None:
            raise ValueError("weights are Inception's, and classifier is another one. Tell one.")
        return self


class TrainedClassifier:
    """p(y|x) = softmax(logits) of a frozen image classifier of transformers, such as ResNet-50.

    A picture is stretched to the whole of the network's square, bilinear and antialiased, as
    `PictureInput` says: nothing of a view is cropped away.
    """

    def __init__(self, model: str, *, device: torch.device) -> None:
        self._model = model
        folder = folder_of(model, VISION_FILES)
        network = load_network(model, folder, kind="AutoModelForImageClassification")
        self.classes = int(network.config.num_labels)
        if self.classes < 2:
            raise cannot_load(model, "it has 1 class, of which every picture is, expected several")
        config = network.config
        if not isinstance(getattr(config, "patch_size", None), int):
            size = getattr(config, "image_size", None)  # convolutions fit any size
            config = SimpleNamespace(
                patch_size=1, image_size=size if isinstance(size, int) else _USUAL_SIZE
            )
        self._input = PictureInput(model, folder, config=config, device=device, size=None)
        self._network = network.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def probabilities(self, images: Images) -> ClassProbabilities:
        logits: Tensor = self._network(self._input(images)).logits
        return logits.double().softmax(dim=1)

    def recipe(self) -> dict[str, Any]:
        return {
            "classifier": model_recipe(self._model, VISION_FILES),
            "classes": self.classes,
            "size": self._input.size,
        }


class TextsClassifier:
    """p(k|x) = softmax_k(s·cos(v(x), u_k)): zero-shot CLIP (Radford et al. 2021, section 3.1.2).

    v is CLIP's embedding of the picture, u_k that of text k, and s what the model has learned for
    this softmax, 100 in OpenAI's.
    """

    def __init__(self, texts: Sequence[str], clip: Clip) -> None:
        self._clip, self._texts = clip, tuple(texts)
        self._embedded = clip.texts(texts).double()

    @torch.no_grad()
    def probabilities(self, images: Images) -> ClassProbabilities:
        cosines = self._clip.pictures(images).double() @ self._embedded.T
        return (self._clip.scale * cosines).softmax(dim=1)

    def recipe(self) -> dict[str, Any]:
        return {
            "clip": model_recipe(self._clip.model),
            "classes": len(self._texts),
            "texts": list(self._texts),
        }


class InceptionClassifier:
    """p(y|x) of InceptionV3, of 1008 classes: the 2015 graph that the papers' scores come from.

    Its own logits, biases and all. The first code for the Inception score left the biases away,
    and papers do not say which they have.
    """

    def __init__(self, weights: str, device: torch.device) -> None:
        self._encoder = InceptionEncoder(weights, device)

    @torch.no_grad()
    def probabilities(self, images: Images) -> ClassProbabilities:
        return self._encoder.probabilities(images).double()

    def recipe(self) -> dict[str, Any]:
        recipe = self._encoder.recipe()
        return {"classifier": recipe, "classes": CLASSES, "logits": "with biases"}


# For as long as a metric holds them: the metrics of one evaluation share them.
_made: WeakValueDictionary[tuple[object, ...], PictureClassifier] = WeakValueDictionary()


def build_classifier(options: ClassifierOptions, context: MetricContext) -> PictureClassifier:
    """The one that is told, or the prior's own, or else the prior's texts by the prior's CLIP."""
    encoders, device = context.encoders, context.device
    model = options.classifier or encoders.classifier
    if model is None and options.weights is None and len(encoders.classes) < 2:
        raise ConfigError(
            f"the prior names no classifier of pictures, and {len(encoders.classes)} texts to tell "
            "them apart by, expected two or more. Name a classifier of pictures: "
            "--set METRIC.classifier=..."
        )
    key = (options.weights, model, encoders.clip, encoders.classes, str(device))
    found = _made.get(key)
    if found is None:
        if options.weights is not None:
            found = InceptionClassifier(options.weights, device)
        elif model is not None:
            found = TrainedClassifier(model, device=device)
        else:
            clip = shared_clip(encoders.clip, device)
            found = TextsClassifier(encoders.classes, clip)
        _made[key] = found
    return found
