"""What a judge of poses says of a view, and the judge that knows the true object."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sd_core.cameras import CameraBatch, orbit_cameras
from sd_core.shapes import Images
from sd_toybox.meter.faces import NO_POSE, best_azimuths, best_poses
from sd_toybox.meter.pose_posterior import (
    PIXELS,
    Cosines,
    Posterior,
    pose_posterior,
    view_cosines,
)
from sd_toybox.model.pose_head import AZIMUTHS, grid_azimuths
from sd_toybox.world.pictures import world_pictures

SIZES: Final = (0.9, 1.0, 1.1)  # of the true object: what was distilled is not always as large

# A view less like the object than this shows no pose: noise has 0.1, a silhouette 0.2 to 0.4, and
# a true view that is blurred, moved or pulled about has 0.3 to 0.9.
LEAST_LIKENESS: Final = 0.3

_REMEMBERED = 64  # sets of 72 small renders; a ring of views shares one


@dataclass(frozen=True)
class ToyName:
    """An object of the world by its names."""

    kind: str
    colour: str


@dataclass(frozen=True, eq=False)
class PoseReading:
    """For each view the posterior over 24 azimuths, and how like the object it is, 0 to 1."""

    posterior: Posterior
    likeness: Float[Tensor, " views"]

    @property
    def seen(self) -> Bool[Tensor, " views"]:
        """Which views are like the object at all."""
        return self.likeness >= LEAST_LIKENESS

    @property
    def poses(self) -> Int[Tensor, " views"]:
        """Indices into POSES, and NO_POSE where there is none."""
        return best_poses(self.posterior).masked_fill(~self.seen, NO_POSE)

    @property
    def azimuth(self) -> Float[Tensor, " views"]:
        """The most likely azimuth of each view, in radians."""
        return best_azimuths(self.posterior)

    @staticmethod
    def concatenate(readings: "Sequence[PoseReading]") -> "PoseReading":
        """One after the other."""
        return PoseReading(
            torch.cat([each.posterior for each in readings]),
            torch.cat([each.likeness for each in readings]),
        )


class AbstractPoseJudge(ABC):
    """Says from where each view shows an object that has a front."""

    @abstractmethod
    def read(self, images: Images, named: ToyName, cameras: CameraBatch) -> PoseReading:
        """Of views of the object that is named, on the CPU."""


class RenderPoseJudge(AbstractPoseJudge):
    """Compares with renders of the true object, from the height and distance of each view.

    The likeness is the largest of the cosines: 0 for a blank picture, about 0.1 for noise, 0.3 to
    0.6 for the object without its marks, 0.6 to 1 for a true view.
    """

    def read(self, images: Images, named: ToyName, cameras: CameraBatch) -> PoseReading:
        images = images.detach().to("cpu", torch.float32)
        cosines = torch.empty(len(images), AZIMUTHS)
        for place, rows in _rows_by_place(cameras).items():
            cosines[rows] = _best_cosines(images[rows], named, place)
        return PoseReading(pose_posterior(cosines), cosines.amax(dim=1).clamp_min(0))


Place = tuple[float, float, float]  # elevation, distance, vertical field of view


def _rows_by_place(cameras: CameraBatch) -> dict[Place, list[int]]:
    """The views that differ in azimuth alone, by what they share."""
    columns = (cameras.elevation, cameras.distance, cameras.vertical_fov)
    rows: dict[Place, list[int]] = {}
    for row, (elevation, distance, fov) in enumerate(torch.stack(columns, dim=1).tolist()):
        place = (round(elevation, 4), round(distance, 4), round(fov, 4))
        rows.setdefault(place, []).append(row)
    return rows


def _best_cosines(views: Images, named: ToyName, place: Place) -> Cosines:
    by_size = [view_cosines(views, true) for true in _true_views(named, place)]
    return torch.stack(by_size).amax(dim=0)


@lru_cache(maxsize=_REMEMBERED)
def _true_views(named: ToyName, place: Place) -> Float[Tensor, "sizes azimuths 3 32 32"]:
    """The object at the 24 azimuths, in every size: tan(fov/2) shrinks as the object grows."""
    elevation, distance, fov = place
    azimuth = grid_azimuths().to(torch.float32)
    pictures = []
    for size in SIZES:
        half = (torch.full_like(azimuth, fov) / 2).tan() / size
        cameras = orbit_cameras(
            azimuth=azimuth,
            elevation=torch.full_like(azimuth, elevation),
            distance=torch.full_like(azimuth, distance),
            vertical_fov=2 * half.atan(),
        )
        pictures.append(world_pictures(named.kind, named.colour, cameras, PIXELS))
    return torch.stack(pictures)
