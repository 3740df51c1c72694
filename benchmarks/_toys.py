"""Views of the toybox's toys from a little above, as the benchmarks of poses take them."""

from math import pi, radians
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from sd_core.atomic import new_folder
from sd_core.cameras import CameraBatch, orbit_cameras
from sd_core.pictures import save_png
from sd_core.shapes import Images
from sd_toybox.world.pictures import world_pictures
from sd_toybox.world.poses import POSES

# Where pictures of a toy's four sides are, in the place of this word.
TEMPLATES = "TEMPLATES"
# USD's classifier, with what suits the toybox's features: see docs/benchmarks.md.
MATCHING = (
    *("augmentations=0", "patch_temperature=0.2"),
    *(f"templates={TEMPLATES}", "mirrored=[]"),
)
NOISED = ("kind=noised", f"templates={TEMPLATES}")


def cameras_at(azimuth: Float[Tensor, " views"]) -> CameraBatch:
    """At an elevation of 10°."""
    return orbit_cameras(
        azimuth=azimuth,
        elevation=torch.full_like(azimuth, radians(10.0)),
        distance=torch.full_like(azimuth, 2.0),
        vertical_fov=torch.full_like(azimuth, radians(40.0)),
    )


def four_sides(kind: str, colour: str) -> Images:
    """One view of each of `POSES`."""
    return world_pictures(kind, colour, cameras_at(torch.arange(4) * (pi / 2)))


def template_folder(folder: Path, kind: str, colour: str) -> Path:
    """A folder with a toy's four sides, for USD's classifier; made once."""
    if not folder.is_dir():
        with new_folder(folder) as aside:
            for pose, picture in zip(POSES, four_sides(kind, colour), strict=True):
                save_png(aside / f"{pose}.png", picture[None])
    return folder
