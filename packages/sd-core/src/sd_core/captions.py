"""captions.json: what the pictures of a folder were made for, or show.

{"001.png": "a red bear", "cats/2.jpg": ["a cat", "a grey cat"]}
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sd_core.errors import ConfigError

CAPTIONS = "captions.json"


def read_captions(folder: Path) -> dict[str, tuple[str, ...]] | None:
    """The prompts of each file, by its path from the folder; None where there is no such list.

    Whether the files are there is not looked at.
    """
    path = folder / CAPTIONS
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unfit(path, " ".join(str(error).split())[:160].rstrip(".")) from None
    if not isinstance(content, Mapping):
        raise _unfit(path, "it is no table")
    return {name: _prompts(path, name, told) for name, told in content.items()}


def _prompts(path: Path, name: str, told: Any) -> tuple[str, ...]:
    prompts = [told] if isinstance(told, str) else told
    if not (isinstance(prompts, list) and all(isinstance(each, str) for each in prompts)):
        raise _unfit(path, f"'{name}' has neither a prompt nor a list of prompts")
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts:
        raise _unfit(path, f"'{name}' is no file in its folder")
    return tuple(each.strip() for each in prompts)


def _unfit(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"cannot use '{path}': {reason}. Write what each picture shows, such as "
        '{"001.png": "a red bear"}.'
    )
