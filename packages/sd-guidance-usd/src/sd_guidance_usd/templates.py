"""One picture for each pose, as files in a folder and as what a classifier takes."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from sd_core.atomic import new_folder
from sd_core.errors import ConfigError
from sd_core.picture_folder import picture_files, read_picture
from sd_core.pictures import save_png
from sd_guidance_usd.matching import Templates

# By class.
Pictures = Mapping[str, Float[Tensor, "3 height width"]]

MIRRORED = "mirrored_"
USUALLY_MIRRORED = "side"
Name = TypeVar("Name")
_FILE_NAME = re.compile(r"\w[\w -]{0,63}")


def load_pictures(folder: Path) -> dict[str, Float[Tensor, "3 height width"]]:
    """front.png is the class "front", and so on, sorted by name."""
    paths = _paths(folder)
    if len(paths) < 2:
        raise ConfigError(
            f"guidance.classifier.templates is '{folder}', which has {len(paths)} pictures. Give a "
            "folder with one for each pose, such as front.png, side.png and back.png."
        )
    for one, other in pairwise(paths):
        if one.stem == other.stem:
            raise ConfigError(
                f"both {one.name} and {other.name} in '{folder}' are templates of '{one.stem}'. "
                "Remove one."
            )
    return of_one_size({path.stem: read_picture(path) for path in paths})


def of_one_size(
    pictures: Mapping[Name, Float[Tensor, "3 _ _"]],
) -> dict[Name, Float[Tensor, "3 height width"]]:
    """Stretched to the largest height and width; an encoder stretches them to its own anyway."""
    sizes = [picture.shape[1:] for picture in pictures.values()]
    size = [max(lengths) for lengths in zip(*sizes, strict=True)]
    stretch = partial(interpolate, size=size, mode="bilinear", antialias=True)
    return {
        name: picture if list(picture.shape[1:]) == size else stretch(picture[None])[0].clamp(0, 1)
        for name, picture in pictures.items()
    }


def save_pictures(folder: Path, pictures: Pictures) -> None:
    """front.png and so on, in place of a folder of that name; all of them or none."""
    with new_folder(folder) as aside:
        for name, picture in pictures.items():
            save_png(aside / f"{name}.png", picture[None])


def kept_pictures(
    folder: Path, make: Callable[[], Pictures], *, order: Iterable[str] | None
) -> Pictures:
    """Those in the folder, in that order (None: by name); made and saved there if it is not there.

    They are read in either case, so that both have the same bits.
    """
    if not folder.is_dir():
        save_pictures(folder, make())
    names = order or [path.stem for path in _paths(folder)]
    for name in names:
        if not (folder / f"{name}.png").is_file():
            raise ConfigError(
                f"the template '{folder / name}.png' is gone, which this run was begun with. Put "
                "it back, or begin a new run."
            )
    return {name: read_picture(folder / f"{name}.png") for name in names}


def with_mirrored(pictures: Pictures, mirrored: Sequence[str] | None) -> Templates:
    """Each picture a class; those named also the other way round, as "mirrored_NAME"."""
    classes = class_names(tuple(pictures), mirrored)
    turned = {MIRRORED + name: picture.flip(-1) for name, picture in pictures.items()}
    every = {**turned, **pictures}
    return Templates(classes, torch.stack([every[name] for name in classes]))


def class_names(names: Sequence[str], mirrored: Sequence[str] | None) -> tuple[str, ...]:
    """Those of the pictures, and "mirrored_" of those that count mirrored, too: USUALLY_MIRRORED
    where it is there and its mirrored form is not, unless told."""
    if mirrored is None:
        usual = USUALLY_MIRRORED in names and MIRRORED + USUALLY_MIRRORED not in names
        mirrored = [USUALLY_MIRRORED] if usual else []
    for place, name in enumerate(mirrored):
        if MIRRORED + name in names or name in mirrored[:place]:
            raise ConfigError(
                f"guidance.classifier.mirrored names '{name}', but there is a class "
                f"'{MIRRORED + name}' already. Name it once, or remove that class."
            )
        if name not in names:
            raise ConfigError(
                f"guidance.classifier.mirrored names '{name}', but the templates are "
                f"{', '.join(names)}. Name some of them, or none."
            )
    return (*names, *(MIRRORED + name for name in mirrored))


def check_file_names(names: Iterable[str]) -> None:
    """A class whose pictures are made is kept as a file of its name."""
    for name in names:
        if not _FILE_NAME.fullmatch(name):
            raise ConfigError(
                f"the class {name!r} cannot be the name of a picture's file. Use letters, "
                "digits, spaces, hyphens and underscores."
            )


def _paths(folder: Path) -> list[Path]:
    return picture_files(folder) if folder.is_dir() else []
