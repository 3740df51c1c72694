"""How a model is named in what was measured with it."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from sd_core.encoders.pretrained import TOKENIZER_FILES, VISION_FILES, folder_of

# Of a CLIP; of a model without a tokenizer those that it has.
_FILES = (*VISION_FILES, *TOKENIZER_FILES)
_AT_ONCE = 1 << 22  # bytes


def model_recipe(model: str, files: Sequence[str] = _FILES) -> dict[str, str]:
    """Which model it was: its id and revision, or a folder's name and what is in it.

    model     the id, or the last part of a folder's path: where it lies is nobody's business
    revision  the commit, of one that came from the hub
    sha256    the first 16 digits, of any other folder: of its files, with weights and settings
    """
    return dict(_recipe(model, tuple(files)))


@lru_cache(maxsize=64)
def _recipe(model: str, files: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Once for each model: digests of large files take a while."""
    folder = folder_of(model, files)
    if folder.parent.name == "snapshots":
        return ("model", model), ("revision", folder.name)
    name = folder.resolve().name if Path(model).expanduser().is_dir() else model
    found = sorted({file for pattern in files for file in folder.glob(pattern)})
    return ("model", name), ("sha256", _digest(found))


def _digest(paths: Sequence[Path]) -> str:
    """Of the names, sizes and contents."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(_AT_ONCE):
                digest.update(block)
    return digest.hexdigest()[:16]
