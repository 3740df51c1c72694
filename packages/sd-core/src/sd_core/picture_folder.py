"""Pictures of anybody's in a folder, as one object for each prompt that they were made for."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from sd_core.errors import ConfigError
from sd_core.shapes import Images

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
CAPTIONS = "captions.json"
AT_ONCE = 32  # pictures in memory

# What to do with pictures that cannot be read, or are not as large as most.
Bad = Literal["refuse", "skip"]


def picture_files(folder: Path) -> list[Path]:
    """In the order of their names; contact sheets and parts of files have a dot in front."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )


@dataclass(frozen=True)
class PictureFolder:
    """Files that can be read and have one size, by prompt, and why others were left out."""

    folder: Path
    files: dict[str, list[Path]]
    size: tuple[int, int]  # height and width
    digest: str  # of names and contents
    skipped: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, *, prompt: str | None, bad: Bad) -> "PictureFolder":
        """Every file is opened once, so that nothing is found to be missing in the middle."""
        files = picture_files(folder)
        sizes, wrong = _sizes(files)
        if not sizes:
            raise ConfigError(f"{folder} holds no picture that can be read. {_first(wrong)}")
        ((size, _),) = Counter(sizes.values()).most_common(1)
        for path, own in sizes.items():
            if own != size:
                wrong[path.name] = f"{own[0]} x {own[1]} pixels, most have {size[0]} x {size[1]}"
        if wrong and bad == "refuse":
            raise ConfigError(
                f"{folder}: {_first(wrong)} Mend or remove {_these(wrong)}, or give "
                "--bad-pictures skip."
            )
        good = [path for path in files if path.name not in wrong]
        return cls(folder, _by_prompt(folder, good, prompt), size, _digest(good), wrong)

    def batches(self, prompt: str) -> Iterator[Images]:
        """A few at a time: a folder may hold more than the memory."""
        files = self.files[prompt]
        for start in range(0, len(files), AT_ONCE):
            yield torch.stack([read_picture(path) for path in files[start : start + AT_ONCE]])


def read_picture(path: Path) -> Float[Tensor, "3 height width"]:
    """Upright as its camera meant it, on white where it is transparent, in [0, 1]."""
    try:
        with Image.open(path) as file:
            if file.mode.startswith(("I", "F")):
                raise ConfigError(
                    f"the picture '{path}' has more than 8 bits a channel. Save it with 8."
                )
            upright = ImageOps.exif_transpose(file).convert("RGBA")
    # A PNG that is cut is a SyntaxError, and one of a billion pixels an error of Pillow's own.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise ConfigError(
            f"cannot read the picture '{path}': {reason}. Save it again as PNG or JPEG."
        ) from None
    white = Image.new("RGBA", upright.size, "white")
    levels = np.array(Image.alpha_composite(white, upright).convert("RGB"))
    return torch.from_numpy(levels).movedim(-1, 0).contiguous().float() / 255


def _sizes(files: list[Path]) -> tuple[dict[Path, tuple[int, int]], dict[str, str]]:
    """Of those that can be read whole; and what is wrong with the others."""
    sizes, wrong = {}, {}
    for path in files:
        try:
            _, height, width = read_picture(path).shape
            sizes[path] = (height, width)
        except ConfigError as error:
            wrong[path.name] = str(error)
    return sizes, wrong


def _digest(files: list[Path]) -> str:
    """The first 16 digits of the SHA-256 of all names and contents."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _by_prompt(folder: Path, files: list[Path], prompt: str | None) -> dict[str, list[Path]]:
    if prompt is not None:
        return {prompt: files}
    path = folder / CAPTIONS
    if not path.is_file():
        raise ConfigError(
            f"{folder} does not say what its pictures were made for. Give --prompt TEXT (or "
            f'--prompt "" for metrics that read none), or a {CAPTIONS} in it that maps each file '
            "to its prompt."
        )
    try:
        captions = json.loads(path.read_text("utf-8"))
        texts = {n: [each] if isinstance(each, str) else each for n, each in captions.items()}
        named = {name: each[0] for name, each in texts.items()}
    except (OSError, ValueError, AttributeError, LookupError, TypeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}). It must map each file to its prompt."
        ) from None
    found: dict[str, list[Path]] = {}
    for file in files:
        if not isinstance(named.get(file.name), str):
            raise ConfigError(f"{path} has no prompt for {file.name}. Add it, or give --prompt.")
        found.setdefault(named[file.name], []).append(file)
    return found


def _first(wrong: dict[str, str]) -> str:
    for name, what in wrong.items():
        return f"{name}: {what}."
    return f"It looks for {', '.join(SUFFIXES)}."


def _these(wrong: dict[str, str]) -> str:
    return "it" if len(wrong) == 1 else f"all {len(wrong)} such files"
