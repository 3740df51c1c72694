"""What a vision transformer sees in pictures: one vector for the whole, one for each patch."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sd_core.errors import ConfigError
from sd_core.priors.diffusion.model_ids import variable_of
from sd_core.shapes import Images

_PROCESSOR = "preprocessor_config.json"
_FILES = ["config.json", _PROCESSOR, "model*.safetensors"]
_ELSEWHERE = "To load another, name a folder as transformers writes it, or an id of the hub."


@dataclass(frozen=True, eq=False)
class Features:
    """Of each picture: the global token, and the patches in rows from the top."""

    whole: Float[Tensor, "batch whole_width"]
    patches: Float[Tensor, "batch rows columns width"]


# Whatever gives features of pictures in [0, 1].
Extractor = Callable[[Images], Features]


class FeatureExtractor:
    """A frozen vision transformer of transformers: DINOv2 and its like, or the eye of a CLIP.

    A picture of any size is stretched to size² (bilinear, antialiased), where `size` is a multiple
    of the patches' own; then x̂ = (x - mean)/std, both as the model's processor has them. Features
    are differentiable in the pictures.

    | model        | whole                         | patches                                  |
    |--------------|-------------------------------|------------------------------------------|
    | CLIP         | the class token, last layer   | tokens after half of the layers          |
    | all others   | the class token, last layer   | tokens of the last layer, no registers   |

    CLIP's embedding is a projection of its class token to what captions tell apart. Its loss sees
    no patch, so what the last layer makes of them reaches nothing. Both choices are measured with
    the toybox's CLIP alone, which was taught azimuths, from its class token and from the mean of
    its last patches: there the embedding knows less of the pose, and the last patches know it
    all over the picture, so that the object is not found among them.
    """

    def __init__(self, model: str, *, device: torch.device, size: int | None = None) -> None:
        folder = _folder_of(model)
        self._name = model
        network = _load(model, folder)
        self.network = network.eval().requires_grad_(False).to(device)
        config: Any = network.config
        if not isinstance(getattr(config, "patch_size", None), int):
            raise _cannot_load(model, f"a {config.model_type} does not cut pictures into patches")
        self._is_clip = config.model_type == "clip_vision_model"
        self._middle = int(config.num_hidden_layers) // 2  # state 0 enters the first layer
        self._patch: int = config.patch_size
        self._others = 1 + int(getattr(config, "num_register_tokens", 0))
        processor = _processor(model, folder)
        self.size: int = size or _size(processor) or int(config.image_size)
        self._mean, self._std = (
            torch.tensor(processor[key], device=device)[:, None, None]
            for key in ("image_mean", "image_std")
        )
        if self.size % self._patch:
            near = max(1, round(self.size / self._patch)) * self._patch
            raise ConfigError(
                f"the classifier's pictures are {self.size} pixels wide, but '{model}' cuts them "
                f"into patches of {self._patch}. Set size to a multiple, such as {near}."
            )

    def __call__(self, images: Images) -> Features:
        images = images.to(self._mean)
        if images.shape[-2:] != (self.size, self.size):
            size = (self.size, self.size)
            images = interpolate(images, size, mode="bilinear", antialias=True)
        pixels = (images - self._mean) / self._std
        whole, tokens = self._clip(pixels) if self._is_clip else self._plain(pixels)
        side = self.size // self._patch
        if tokens.shape[1] != self._others + side * side:
            raise ConfigError(
                f"'{self._name}' makes {tokens.shape[1]} tokens of {side}² patches, expected "
                f"{self._others} and the patches. Choose a plain vision transformer, such as "
                "facebook/dinov2-small."
            )
        return Features(whole, torch.unflatten(tokens[:, self._others :], 1, (side, side)))

    def _clip(self, pixels: Images) -> tuple[Tensor, Tensor]:
        seen = self.network(pixels, interpolate_pos_encoding=True, output_hidden_states=True)
        return seen.pooler_output, seen.hidden_states[self._middle]

    def _plain(self, pixels: Images) -> tuple[Tensor, Tensor]:
        tokens: Tensor = self.network(pixels).last_hidden_state
        return tokens[:, 0], tokens


def _folder_of(model: str) -> Path:
    """A folder; or else an id, of the environment's folder, the cache or the hub, in this order."""
    for place in (model, os.environ.get(variable_of(model), "")):
        if place and Path(place).expanduser().is_dir():
            return Path(place).expanduser()
    hub, errors = _library("huggingface_hub"), _library("huggingface_hub.errors")
    try:
        return Path(hub.snapshot_download(model, allow_patterns=_FILES))
    except errors.LocalEntryNotFoundError:
        reason = "it is not in the cache, and the hub is out of reach or HF_HUB_OFFLINE is set"
    except errors.RepositoryNotFoundError:
        reason = "the hub has no such model, or it is private"
    except ValueError:
        reason = "it is no folder, and no id such as owner/name"
    except OSError as error:
        reason = _one_line(error)
    raise _cannot_load(model, reason)


def _load(model: str, folder: Path) -> nn.Module:
    """The network, complete, in float32; no code that came with it, no pickled weights."""
    transformers = _library("transformers")
    try:
        network, info = transformers.AutoModel.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _cannot_load(model, _one_line(error)) from None
    if missing := sorted(info["missing_keys"]):
        raise _cannot_load(model, f"{len(missing)} weights missing, such as {missing[0]}")
    module: nn.Module = network.vision_model if network.config.model_type == "clip" else network
    return module


def _processor(model: str, folder: Path) -> Mapping[str, Any]:
    """How the model wants its pictures."""
    try:
        content: dict[str, Any] = json.loads((folder / _PROCESSOR).read_text("utf-8"))
        if {"image_mean", "image_std"} <= content.keys():
            return content
        reason = f"its {_PROCESSOR} has no image_mean and image_std"
    except (OSError, ValueError):
        reason = f"its folder has no {_PROCESSOR} that could be read, with image_mean and image_std"
    raise _cannot_load(model, reason)


def _size(processor: Mapping[str, Any]) -> int | None:
    """The side of the square that the processor cuts out, or else scales to, if it says so."""
    said = processor.get("crop_size") or processor.get("size")
    if isinstance(said, Mapping):
        said = said.get("height", said.get("shortest_edge"))
    return None if said is None else int(said)


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the matching classifier needs the module '{error.name}', which is not installed. "
            'Install the extra: pip install "sd-core[diffusers]".'
        ) from None


def _cannot_load(model: str, reason: str) -> ConfigError:
    return ConfigError(f"cannot load the classifier's model '{model}': {reason}. {_ELSEWHERE}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
