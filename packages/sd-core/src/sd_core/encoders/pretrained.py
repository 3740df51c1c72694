"""Models of transformers, from a folder or the hub: no code of theirs, no pickled weights."""

import json
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from sd_core.errors import ConfigError
from sd_core.priors.diffusion.model_ids import variable_of
from sd_core.shapes import Images

_PROCESSOR = "preprocessor_config.json"
VISION_FILES = ("config.json", _PROCESSOR, "model*.safetensors")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
_ELSEWHERE = "To load another, name a folder as transformers writes it, or an id of the hub."


class PictureInput:
    """Pictures in [0, 1] as a vision transformer wants them.

    A picture of any size is stretched to size² (bilinear, antialiased), where `size` is a multiple
    of the patches' own; then x̂ = (x - mean)/std, both as the model's processor has them.
    Differentiable in the pictures, float32.
    """

    def __init__(
        self, model: str, folder: Path, *, config: Any, device: torch.device, size: int | None
    ) -> None:
        if not isinstance(getattr(config, "patch_size", None), int):
            raise cannot_load(model, f"a {config.model_type} does not cut pictures into patches")
        self.patch: int = config.patch_size
        processor = _processor(model, folder)
        self.size: int = size or _size(processor) or int(config.image_size)
        self._mean, self._std = (
            torch.tensor(processor[key], device=device)[:, None, None]
            for key in ("image_mean", "image_std")
        )
        if self.size % self.patch:
            near = max(1, round(self.size / self.patch)) * self.patch
            raise ConfigError(
                f"its pictures are {self.size} pixels wide, but '{model}' cuts them "
                f"into patches of {self.patch}. Set size to a multiple, such as {near}."
            )

    def __call__(self, images: Images) -> Float[Tensor, "batch channels side side"]:
        images = images.to(self._mean)
        if images.shape[-2:] != (self.size, self.size):
            size = (self.size, self.size)
            images = interpolate(images, size, mode="bilinear", antialias=True)
        return (images - self._mean) / self._std


def folder_of(model: str, files: Sequence[str]) -> Path:
    """A folder; or else an id, of the environment's folder, the cache or the hub, in this order."""
    for place in (model, os.environ.get(variable_of(model), "")):
        if place and Path(place).expanduser().is_dir():
            return Path(place).expanduser()
    hub, errors = library("huggingface_hub"), library("huggingface_hub.errors")
    try:
        return Path(hub.snapshot_download(model, allow_patterns=list(files)))
    except errors.LocalEntryNotFoundError:
        reason = "it is not in the cache, and the hub is out of reach or HF_HUB_OFFLINE is set"
    except errors.RepositoryNotFoundError:
        reason = "the hub has no such model, or it is private"
    except ValueError:
        reason = "it is no folder, and no id such as owner/name"
    except OSError as error:
        reason = one_line(error)
    raise cannot_load(model, reason)


def load_network(model: str, folder: Path, *, kind: str = "AutoModel") -> Any:
    """The network, complete, in float32; no code that came with it, no pickled weights.

    `kind` is the class of transformers that makes it.
    """
    try:
        network, info = getattr(library("transformers"), kind).from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise cannot_load(model, one_line(error)) from None
    if missing := sorted(info["missing_keys"]):
        raise cannot_load(model, f"{len(missing)} weights missing, such as {missing[0]}")
    return network


def load_tokenizer(model: str, folder: Path) -> Any:
    """The tokenizer beside the network; no code that came with it."""
    if not has_tokenizer(folder):  # transformers would make one that knows no word
        raise cannot_load(model, "its folder has neither tokenizer.json nor vocab.json")
    try:
        return library("transformers").AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise cannot_load(model, one_line(error)) from None


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json"))


def library(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"this model needs the module '{error.name}', which is not installed. "
            'Install the extra: pip install "sd-core[diffusers]".'
        ) from None


def cannot_load(model: str, reason: str) -> ConfigError:
    return ConfigError(f"cannot load the model '{model}': {reason}. {_ELSEWHERE}")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")


def _processor(model: str, folder: Path) -> Mapping[str, Any]:
    """How the model wants its pictures."""
    try:
        content: dict[str, Any] = json.loads((folder / _PROCESSOR).read_text("utf-8"))
        if {"image_mean", "image_std"} <= content.keys():
            return content
        reason = f"its {_PROCESSOR} has no image_mean and image_std"
    except (OSError, ValueError):
        reason = f"its folder has no {_PROCESSOR} that could be read, with image_mean and image_std"
    raise cannot_load(model, reason)


def _size(processor: Mapping[str, Any]) -> int | None:
    """The side of the square that the processor cuts out, or else scales to, if it says so."""
    said = processor.get("crop_size") or processor.get("size")
    if isinstance(said, Mapping):
        said = said.get("height", said.get("shortest_edge"))
    return None if said is None else int(said)
