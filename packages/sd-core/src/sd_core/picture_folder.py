"""Pictures of anybody's in a folder, as one object for each prompt that they were made for."""

import hashlib
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

from sd_core.captions import CAPTIONS, read_captions
from sd_core.errors import ConfigError
from sd_core.shapes import Images

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
AT_ONCE = 32  # pictures in memory

# What to do with pictures that cannot be read, are not as large as most, or have no prompt.
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
        captions = read_captions(folder)
        files = sorted({*picture_files(folder), *(folder / name for name in captions or ())})
        prompts = _prompts(folder, files, captions, prompt)
        sizes, wrong = _sizes(folder, files)
        if not sizes:
            raise ConfigError(f"{folder} holds no picture that can be read. {_first(wrong)}")
        ((size, _),) = Counter(sizes.values()).most_common(1)
        for path, own in sizes.items():
            if own != size:
                told = f"{own[0]} x {own[1]} pixels, most have {size[0]} x {size[1]}"
                wrong[_name(folder, path)] = told
            elif path not in prompts:
                wrong[_name(folder, path)] = f"{CAPTIONS} has no prompt for it"
        if wrong and bad == "refuse":
            raise ConfigError(
                f"{folder}: {_first(wrong)} Mend or remove {_these(wrong)}, or give "
                "--bad-pictures skip."
            )
        good = [path for path in files if _name(folder, path) not in wrong]
        if not good:
            raise ConfigError(f"{folder} has no picture left. {_first(wrong)}")
        found: dict[str, list[Path]] = {}
        for path in good:
            found.setdefault(prompts[path], []).append(path)
        return cls(folder, found, size, _digest(folder, good), wrong)

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


def _prompts(
    folder: Path,
    files: list[Path],
    captions: dict[str, tuple[str, ...]] | None,
    prompt: str | None,
) -> dict[Path, str]:
    """Of each file that has one: the one told, or the first of those in the list."""
    if prompt is not None:
        return dict.fromkeys(files, prompt)
    if captions is None:
        raise ConfigError(
            f"{folder} does not say what its pictures were made for. Give --prompt TEXT (or "
            f'--prompt "" for metrics that read none), or a {CAPTIONS} in it that maps each file '
            "to its prompt."
        )
    return {folder / name: texts[0] for name, texts in captions.items() if texts}


def _sizes(folder: Path, files: list[Path]) -> tuple[dict[Path, tuple[int, int]], dict[str, str]]:
    """Of those that can be read whole; and what is wrong with the others."""
    sizes, wrong = {}, {}
    for path in files:
        try:
            _, height, width = read_picture(path).shape
            sizes[path] = (height, width)
        except ConfigError as error:
            wrong[_name(folder, path)] = str(error)
    return sizes, wrong


def _name(folder: Path, path: Path) -> str:
    """As captions.json has it: some may be in folders of their own."""
    return path.relative_to(folder).as_posix()


def _digest(folder: Path, files: list[Path]) -> str:
    """The first 16 digits of the SHA-256 of all names and contents."""
    digest = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{_name(folder, path)} {content}\n".encode())
    return digest.hexdigest()[:16]


def _first(wrong: dict[str, str]) -> str:
    for name, what in wrong.items():
        return f"{name}: {what}."
    return f"It looks for {', '.join(SUFFIXES)}."


def _these(wrong: dict[str, str]) -> str:
    return "it" if len(wrong) == 1 else f"all {len(wrong)} such files"
