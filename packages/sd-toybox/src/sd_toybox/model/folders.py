"""Where the model is on the disk, and how it gets there.

    weights/                a diffusers StableDiffusionPipeline: unet/ vae/ text_encoder/ ...
    weights/clip/           a transformers CLIPModel with tokenizer, processor and pose head
    weights/README.md       the model card: how it was made, and what it measures

All weights are 16-bit safetensors. The folder stands in the package itself once it is trained.
"""

import json
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from sd_core.errors import ConfigError

CLIP: Final = "clip"
_INDEX = "model_index.json"


def shipped_folder() -> Path:
    """Where the package keeps its own weights, there or not."""
    return Path(str(files("sd_toybox"))) / "weights"


def find_folder(folder: str | None) -> Path:
    """The folder to load, or a message that says how to get one."""
    found = shipped_folder() if folder is None else Path(folder).expanduser()
    if (found / _INDEX).is_file():
        return found
    raise ConfigError(
        f"there is no toybox model in {found}. Make one, in an hour or two, with "
        "`python -m sd_toybox.train`, or point to another: prior.folder."
    )


def save_pipeline(folder: Path, parts: dict[str, Any]) -> None:
    """Writes what `StableDiffusionPipeline.from_pretrained` reads; networks become 16-bit.

    `parts` are vae, unet, text_encoder, tokenizer and scheduler.
    """
    diffusers: Any = import_module("diffusers")  # here: the prior needs the folder's name alone
    for name in ("vae", "unet", "text_encoder"):
        parts[name].half()
    pipeline = diffusers.StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    _read_as_float32(folder / "text_encoder")
    _readable_for_all(folder)


def save_clip(folder: Path, model: Any, pose_head: Any, *readers: Any) -> None:
    """Writes what `CLIPModel.from_pretrained` reads, the pose head, the tokenizer and processor."""
    from safetensors.torch import save_file

    from sd_toybox.model.pose_head import FILE

    model.half().save_pretrained(folder, safe_serialization=True)
    save_file(pose_head.half().state_dict(), folder / FILE)
    for reader in readers:
        reader.save_pretrained(folder)
    _read_as_float32(folder)
    _readable_for_all(folder)


def _read_as_float32(folder: Path) -> None:
    """Transformers computes in the precision that its file names, diffusers in float32."""
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n", "utf-8")


def _readable_for_all(folder: Path) -> None:
    """safetensors writes files that only their owner can read."""
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
