"""A reference: the folder of pictures that others are compared with.

001.png, cats/2.jpg ...      of any size
captions.json                {file name: prompt or list of prompts}; what it does not name does not
                             count. Without it all pictures beside it serve every prompt.
recipe.json                  how it was made, if anyone wrote it down
features/*.safetensors       kept, so that a second evaluation need not look at the pictures again
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sd_core.atomic import write_bytes
from sd_core.captions import CAPTIONS, read_captions
from sd_core.errors import ConfigError, RunFolderError, nearest
from sd_core.picture_folder import picture_files, read_picture
from sd_core.shapes import Images
from sd_metrics.extractors import PictureEncoder
from sd_metrics.moments import PictureFeatures

RECIPE, FEATURES = "recipe.json", "features"
_AT_ONCE = 16  # pictures
_SCHEMA = 1  # of kept features: to be raised when the same recipe begins to give others


@dataclass(frozen=True)
class Reference:
    """A reference whose list is read, and whose pictures are not yet.

    `names` are the pictures; `prompts` those of each, or None where all serve every prompt.
    """

    folder: Path
    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...] | None

    @classmethod
    def open(cls, folder: Path) -> "Reference":
        """Every file that is named must be there."""
        if not folder.is_dir():
            raise ConfigError(
                f"there is no folder '{folder}' with a reference. Make one with: score-distill "
                "reference --output FOLDER, or put pictures into one."
            )
        captions = read_captions(folder)
        beside = [path.name for path in picture_files(folder)]
        names = tuple(beside if captions is None else captions)
        for name in names:
            if not (folder / name).is_file():
                raise ConfigError(
                    f"the reference '{folder}' has no file '{name}', which its {CAPTIONS} names. "
                    "Bring it back, or take it out of the list."
                )
        if not names:
            raise ConfigError(
                f"the reference '{folder}' has no picture: no {CAPTIONS} that names one, and no "
                "picture beside it. Put some into it, or make another with: "
                "score-distill reference --output FOLDER."
            )
        return cls(folder, names, None if captions is None else tuple(captions.values()))

    def pictures_of(self, prompt: str) -> list[int]:
        """Which of `names` serve the prompt."""
        if self.prompts is None:
            return list(range(len(self.names)))
        found = [index for index, own in enumerate(self.prompts) if prompt in own]
        if found:
            return found
        known = list(dict.fromkeys(each for own in self.prompts for each in own))
        more = f" and {len(known) - 10} more" if len(known) > 10 else ""
        quoted = ", ".join(f"'{each}'" for each in known[:10])
        raise ConfigError(
            f"the reference '{self.folder}' has no picture of '{prompt}'. It has {quoted}{more}."
            f"{nearest(prompt, known)} Name another reference, or add pictures of this prompt."
        )

    def pictures_of_all(self, prompts: Iterable[str]) -> dict[int, str]:
        """Those that serve any of the prompts, each once, with the first prompt that it serves."""
        found: dict[int, str] = {}
        for prompt in dict.fromkeys(prompts):
            for index in self.pictures_of(prompt):
                found.setdefault(index, prompt)
        return found

    def features(self, encoder: PictureEncoder) -> PictureFeatures:
        """Of every picture, a row for each of `names`; from the file where they are kept."""
        recipe = json.dumps(encoder.recipe(), sort_keys=True)
        told = f"{_SCHEMA}\n{recipe}\n{self.digest}"
        digest = hashlib.sha256(told.encode()).hexdigest()[:16]
        path = self.folder / FEATURES / f"{digest}.safetensors"
        kept = self._not_written.get(digest)
        kept = _kept(path, len(self.names)) if kept is None else kept
        if kept is not None:
            return kept
        with torch.no_grad():
            found = torch.cat([encoder.features(some).cpu() for some in self._batches()])
        if not _keep(path, found, {"recipe": recipe, "pictures": self.digest}):
            self._not_written[digest] = found
        return found

    @cached_property
    def _not_written(self) -> dict[str, PictureFeatures]:
        """Features that no file keeps: the next object is compared with them, too."""
        return {}

    @cached_property
    def digest(self) -> str:
        """Of the names and contents of all pictures, as they were when it was first asked for."""
        digest = hashlib.sha256()
        for name in self.names:
            content = hashlib.sha256(_bytes(self.folder / name)).hexdigest()
            digest.update(f"{content} {name}\n".encode())
        return digest.hexdigest()[:16]

    def recipe(self) -> dict[str, Any]:
        """What a number that was measured with it cannot be reproduced without."""
        made = read_json(self.folder / RECIPE) if (self.folder / RECIPE).is_file() else None
        return {"pictures": len(self.names), "sha256": self.digest, "recipe": made}

    def _batches(self) -> Iterator[Images]:
        """Pictures in order, some at once where they are of one size."""
        batch: list[Float[Tensor, "3 height width"]] = []
        for name in self.names:
            picture = read_picture(self.folder / name)
            if batch and (len(batch) == _AT_ONCE or picture.shape != batch[0].shape):
                yield torch.stack(batch)
                batch = []
            batch.append(picture)
        yield torch.stack(batch)


def read_json(path: Path) -> Any:
    """A file of the reference, or one line that names it."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise ConfigError(f"cannot read '{path}': {reason}. Correct it, or remove it.") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"cannot read the picture '{path}': {reason}. Look at the file, or take it out of the "
            "reference."
        ) from None


def _kept(path: Path, count: int) -> PictureFeatures | None:
    """What an earlier evaluation kept; None where it is not there or damaged."""
    try:
        features = load(path.read_bytes())["features"]
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return features if features.ndim == 2 and len(features) == count else None


def _keep(path: Path, features: PictureFeatures, told: Mapping[str, str]) -> bool:
    """Whether it could; a folder that cannot be written costs time at the next evaluation."""
    try:
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, save({"features": features.contiguous()}, metadata=dict(told)))
    except (OSError, RunFolderError) as error:
        logging.getLogger(__name__).warning("features of the reference are not kept: %s", error)
        return False
    return True
