"""What sees features in pictures, for distances between sets of them; loaded on first use."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from sd_core.encoders.clip import Clip
from sd_core.encoders.features import FeatureExtractor
from sd_core.encoders.model_recipe import model_recipe
from sd_core.encoders.pretrained import VISION_FILES
from sd_core.errors import ConfigError
from sd_core.shapes import Images
from sd_metrics.inception import InceptionV3, load_inception
from sd_metrics.moments import PictureFeatures
from sd_metrics.shared_models import shared_clip

Kind = Literal["clip", "features", "inception"]


@runtime_checkable
class PictureEncoder(Protocol):
    """Pictures in [0, 1] of any size → one vector each, of the same width for all."""

    def features(self, images: Images) -> PictureFeatures:
        """Without a graph."""
        ...

    def recipe(self) -> dict[str, Any]:
        """The kind, the model, and its revision or the digest of its files.

        Equal recipes give equal features, so that these may be kept in a file.
        """
        ...


class ClipEncoder:
    """CLIP's embeddings, unit vectors of the space that pictures share with texts."""

    def __init__(self, model: str, device: torch.device) -> None:
        self._model, self._device = model, device

    @cached_property
    def clip(self) -> Clip:
        """For those who ask it for texts, too."""
        return shared_clip(self._model, self._device)

    @torch.no_grad()
    def features(self, images: Images) -> PictureFeatures:
        return self.clip.pictures(images.to(self._device))

    def recipe(self) -> dict[str, Any]:
        return {"kind": "clip", **self._named}

    @cached_property
    def _named(self) -> dict[str, str]:
        return model_recipe(self._model)


class TokenEncoder:
    """The class token of a vision transformer, such as DINOv2, or of a CLIP's eye."""

    def __init__(self, model: str, device: torch.device) -> None:
        self._model, self._device = model, device

    @torch.no_grad()
    def features(self, images: Images) -> PictureFeatures:
        return self._network(images.to(self._device)).whole

    def recipe(self) -> dict[str, Any]:
        return {"kind": "features", **self._named}

    @cached_property
    def _network(self) -> FeatureExtractor:
        return FeatureExtractor(self._model, device=self._device)

    @cached_property
    def _named(self) -> dict[str, str]:
        return model_recipe(self._model, VISION_FILES)


class InceptionEncoder:
    """The last pool of InceptionV3, with the weights in a file that the user names."""

    def __init__(self, weights: str, device: torch.device) -> None:
        self._weights, self._device = Path(weights).expanduser(), device
        if not self._weights.is_file():
            raise ConfigError(
                f"there is no file '{weights}' with weights of Inception. Download pytorch-fid's "
                "pt_inception-2015-12-05-6726825d.pth, and say where it is."
            )

    @torch.no_grad()
    def features(self, images: Images) -> PictureFeatures:
        found: Tensor = self._network(images.to(self._device, torch.float32))
        return found

    @torch.no_grad()
    def probabilities(self, images: Images) -> PictureFeatures:
        return self._network.probabilities(images.to(self._device, torch.float32))

    def recipe(self) -> dict[str, Any]:
        return {
            "kind": "inception",
            "model": "InceptionV3, 2015-12-05",
            "resize": "bilinear, not antialiased",
            "sha256": self._digest,
        }

    @cached_property
    def _network(self) -> InceptionV3:
        return load_inception(self._weights, self._device)

    @cached_property
    def _digest(self) -> str:
        with self._weights.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]


_KINDS: Final[dict[Kind, Callable[[str, torch.device], PictureEncoder]]] = {
    "clip": ClipEncoder,
    "features": TokenEncoder,
    "inception": InceptionEncoder,
}

# For as long as a metric holds them.
_encoders: WeakValueDictionary[tuple[Kind, str, str], PictureEncoder] = WeakValueDictionary()


def shared_encoder(kind: Kind, model: str, device: torch.device) -> PictureEncoder:
    """The same for every metric that asks for it; `model` is the file of weights for inception."""
    key = (kind, model, str(device))
    encoder = _encoders.get(key)
    if encoder is None:
        encoder = _encoders[key] = _KINDS[kind](model, device)
    return encoder
