"""Checkpoints: tensors in safetensors, everything else in JSON; atomic, verified, no pickle.

A checkpoint is a folder `step_000100/` of two files. `state.json` holds the structure with a place
for each tensor, the SHA-256 of `state.safetensors`, and one of its own content.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from sd_core.atomic import disk_errors, new_folder, remove_folder
from sd_core.errors import CheckpointError

SCHEMA = 1
KEEP = 2
PREVIOUS = "Resume from the one before it with --previous."
_NAME = re.compile(r"stage_\d+_step_\d+")


@dataclass(frozen=True)
class CheckpointLabel:
    """What a checkpoint belongs to. `steps_done` counts finished steps of the stage."""

    experiment: str
    stage: int
    steps_done: int


def save_checkpoint(folder: Path, label: CheckpointLabel, state: dict[str, Any]) -> Path:
    """Write `folder/stage_0_step_000100`, then drop all but the last two.

    The older one goes only when the newer one is whole on the disk.
    """
    path = folder / f"stage_{label.stage}_step_{label.steps_done:06d}"
    tensors: dict[str, Tensor] = {}
    skeleton = _take_apart(state, tensors)
    with new_folder(path) as aside:
        # Not `save_file`: on a full disk that raises an error of its own, which is no OSError.
        raw = tensors_to_bytes(tensors)
        (aside / "state.safetensors").write_bytes(raw)
        content = {
            "schema": SCHEMA,
            **asdict(label),
            "tensors_sha256": _sha256(raw),
            "state": skeleton,
        }
        text = json.dumps(content, sort_keys=True)
        manifest = {"sha256": _sha256(text.encode()), "content": content}
        (aside / "state.json").write_text(json.dumps(manifest, sort_keys=True), "utf-8")
    for old in list_checkpoints(folder)[:-KEEP]:
        with disk_errors(old):
            remove_folder(old)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints, oldest first."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if _NAME.fullmatch(path.name)), key=place_of)


def place_of(path: Path) -> tuple[int, int]:
    """The stage of a checkpoint and the steps done in it, as its name tells."""
    _, stage, _, step = path.name.split("_")
    return int(stage), int(step)


def drop_later(folder: Path, stage: int, steps_done: int) -> None:
    """Remove what lies after the point that a run goes on from, as `--previous` leaves it."""
    for path in list_checkpoints(folder):
        if place_of(path) > (stage, steps_done):
            with disk_errors(path):
                remove_folder(path)


def load_checkpoint(
    path: Path, *, experiment: str, if_damaged: str = PREVIOUS
) -> tuple[CheckpointLabel, dict[str, Any]]:
    """The state that `save_checkpoint` was given, to the bit, or an error that says what to do.

    `if_damaged` is the remedy that the error names, where another one than `--previous` works.
    """
    try:
        return _load_whole(path, experiment)
    except _Damage as damage:
        message = f"checkpoint {path} is damaged: {damage}. {if_damaged}"
        raise CheckpointError(message) from None


class _Damage(Exception):
    """What is wrong with a checkpoint's files."""


def _load_whole(path: Path, experiment: str) -> tuple[CheckpointLabel, dict[str, Any]]:
    content = _read_manifest(path)
    label = CheckpointLabel(content["experiment"], content["stage"], content["steps_done"])
    if label.experiment != experiment:
        raise CheckpointError(
            f"checkpoint {path} belongs to another experiment ({label.experiment}, not "
            f"{experiment}). If config.json was edited by hand, undo that, or run the edited file "
            "into a new folder; else resume the run folder that the checkpoint came from."
        )
    try:
        raw = (path / "state.safetensors").read_bytes()
        if _sha256(raw) != content["tensors_sha256"]:
            raise _Damage("the checksum of state.safetensors does not match")
        tensors = load_tensors(raw)
    except (OSError, SafetensorError) as error:
        raise _Damage(str(error)) from None
    return label, _put_together(content["state"], tensors)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "state.json").read_text("utf-8"))
        content: dict[str, Any] = manifest["content"]
        schema = int(content["schema"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _Damage(f"state.json cannot be read ({error})") from None
    if schema > SCHEMA:
        raise CheckpointError(
            f"checkpoint {path} has schema {schema}, this sd-core reads up to {SCHEMA}. "
            "Update sd-core."
        )
    if _sha256(json.dumps(content, sort_keys=True).encode()) != manifest.get("sha256"):
        raise _Damage("the checksum of state.json does not match")
    return content


def _take_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Nested state → JSON, moving tensors to `tensors`. Kinds are tagged, keys keep their type."""
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        # A copy of its own: safetensors refuses tensors that share memory.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {
            "dict": [[_take_apart(k, tensors), _take_apart(v, tensors)] for k, v in value.items()]
        }
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"  # torch.Size comes back as a tuple
        return {kind: [_take_apart(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}; use tensors and numbers")


def _put_together(node: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    ((kind, held),) = node.items()
    if kind == "tensor":
        return tensors[held]
    if kind == "dict":
        return {_put_together(k, tensors): _put_together(v, tensors) for k, v in held}
    if kind in ("list", "tuple"):
        items = [_put_together(item, tensors) for item in held]
        return items if kind == "list" else tuple(items)
    return held


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
