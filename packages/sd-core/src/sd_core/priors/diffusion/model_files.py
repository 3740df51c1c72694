"""The files of a diffusers model: found, fetched if need be, and read without surprises.

Two things are never done silently: running code that came with the model or unpickling its
weights (both need an option), and filling in random numbers for weights that are missing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sd_core.errors import ConfigError
from sd_core.priors.diffusion.model_ids import RETIRED, ModelId, ModelSource

_LIBRARIES = ("diffusers", "transformers")  # whose classes are run without asking


@dataclass(frozen=True)
class FileOptions:
    """What may be read."""

    variant: str | None = None
    allow_pickle: bool = False
    allow_remote_code: bool = False


@dataclass(frozen=True)
class ModelFiles:
    """A pipeline folder on this machine. `index` is its model_index.json."""

    source: ModelSource
    folder: Path
    options: FileOptions
    index: Mapping[str, Any]

    @property
    def commit(self) -> str | None:
        """The commit of the hub that the files are of, if they are of the hub."""
        return self.folder.name if isinstance(self.source.where, ModelId) else None

    def has(self, component: str) -> bool:
        """Whether the pipeline has this part; an optional one may be [null, null]."""
        entry = self.index.get(component)
        return isinstance(entry, list) and entry[-1] is not None

    def read_json(self, path: str) -> dict[str, Any]:
        """One of the model's configuration files."""
        return _read_json(self.folder / path, self.source)

    def load(self, component: str, dtype: torch.dtype) -> nn.Module:
        """The network in this part of the pipeline, complete, frozen, in evaluation mode."""
        kind = self.class_of(component)
        try:
            network, info = kind.from_pretrained(
                self.folder,
                subfolder=component,
                dtype=dtype,
                variant=self.options.variant,
                use_safetensors=None if self.options.allow_pickle else True,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise self._cannot_load(component, str(error)) from None
        if info["missing_keys"]:
            missing = sorted(info["missing_keys"])
            raise self._cannot_load(
                component, f"{len(missing)} weights missing, such as {missing[0]}"
            )
        module: nn.Module = network
        return module.eval().requires_grad_(False)

    def load_tokenizer(self, component: str) -> Any:
        """The tokenizer in this part of the pipeline."""
        kind = self.class_of(component)
        try:
            return kind.from_pretrained(self.folder / component)
        except (OSError, ValueError) as error:
            raise self._cannot_load(component, str(error)) from None

    def class_of(self, component: str) -> Any:
        """The class that the pipeline names for this part."""
        if not self.has(component):
            raise ConfigError(
                f"the model '{self.source.name}' has no {component}, which a text-to-image model "
                f"of its family needs. {self.source.how_to_point_elsewhere}"
            )
        library, name = self.index[component]
        if library in _LIBRARIES:
            return getattr(import_module(library), name)
        if not self.options.allow_remote_code:
            raise ConfigError(
                f"the {component} of '{self.source.name}' is a {name} with code of its own. "
                f"Read {self.folder / component / library}.py; if you trust it, set "
                "prior.allow_remote_code = true."
            )
        own_code: Any = import_module("diffusers.utils.dynamic_modules_utils")
        return own_code.get_class_from_dynamic_module(
            self.folder / component,
            module_file=f"{library}.py",
            class_name=name,
            trust_remote_code=True,
        )

    def _cannot_load(self, component: str, reason: str) -> ConfigError:
        line = " ".join(reason.split())
        pickled = any((self.folder / component).glob("*.bin"))
        hint = ""
        if pickled and not self.options.allow_pickle:
            hint = (
                " It has pickled weights, which can run any code when they are read: convert "
                "them, or set prior.allow_pickle = true if you trust them."
            )
        return ConfigError(
            f"cannot load the {component} of '{self.source.name}' ({line[:200].rstrip('.')})."
            f"{hint} {self.source.how_to_point_elsewhere}"
        )


def open_model(source: ModelSource, options: FileOptions) -> ModelFiles:
    """Everything of the model on this machine, or one error that says what to do."""
    require_diffusers()
    folder = source.where if isinstance(source.where, Path) else _fetch(source, options)
    index = _read_json(folder / "model_index.json", source)
    return ModelFiles(source=source, folder=folder, options=options, index=index)


def require_diffusers() -> None:
    """One line, instead of a traceback, where the extra is not installed."""
    try:
        for library in _LIBRARIES:
            import_module(library)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the prior 'stable-diffusion' needs the module '{error.name}', which is not "
            'installed. Install the extra: pip install "sd-core[diffusers]".'
        ) from None


def _fetch(source: ModelSource, options: FileOptions) -> Path:
    """From the cache, or else from the hub into the cache: only what a prior reads."""
    hub: Any = import_module("huggingface_hub")
    errors: Any = import_module("huggingface_hub.errors")
    assert isinstance(source.where, ModelId)
    try:
        folder = hub.snapshot_download(
            source.where.id,
            revision=source.where.revision,
            allow_patterns=_wanted(options),
            ignore_patterns=_unwanted(options),
        )
        return Path(folder)
    except errors.GatedRepoError:
        reason = "it is gated: accept its licence, then log in with `hf auth login`"
    except errors.RevisionNotFoundError:
        reason = f"it has no revision '{source.where.revision}'"
    except errors.RepositoryNotFoundError:
        reason = "the hub has no such model, or it is private"
    except errors.LocalEntryNotFoundError:
        reason = "it is not in the cache, and the hub is out of reach or HF_HUB_OFFLINE is set"
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
    heir = RETIRED.get(source.where.id)
    moved = f' It was taken off the hub; its copy is {source.option} = "{heir}".' if heir else ""
    raise ConfigError(
        f"cannot load the model '{source.name}': {reason}.{moved} {source.how_to_point_elsewhere}"
    )


def _wanted(options: FileOptions) -> list[str]:
    parts = ("unet", "transformer", "vae", "text_encoder*")
    weights = f"*.{options.variant}*.safetensors" if options.variant else "*.safetensors"
    suffixes = [weights, "*.json"]
    suffixes += ["*.bin"] * options.allow_pickle + ["*.py"] * options.allow_remote_code
    others = ["model_index.json", "scheduler/*.json", "tokenizer*/*"]
    return others + [f"{part}/{suffix}" for part in parts for suffix in suffixes]


def _unwanted(options: FileOptions) -> list[str]:
    """Copies of the weights in other precisions or before averaging: gigabytes that none reads."""
    marks = ["fp16", "bf16", "non_ema", "ema_only"]
    return [f"*.{mark}*" for mark in marks if mark != options.variant] + ["*openvino*", "*flax*"]


def _read_json(path: Path, source: ModelSource) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return content
    except OSError:
        raise ConfigError(
            f"the model '{source.name}' has no {path.name} in {path.parent}, expected a folder as "
            f"diffusers writes it. {source.how_to_point_elsewhere}"
        ) from None
    except ValueError as error:
        raise ConfigError(f"cannot read {path}: {error}. Fetch the model again.") from None
