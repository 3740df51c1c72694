"""What the meter's metrics share: views are read one by one, and asked about as one orbit."""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sd_core.cameras import CameraBatch
from sd_core.config import Options, option
from sd_core.errors import ConfigError
from sd_core.metric import AbstractMetric, MetricContext
from sd_core.shapes import Images
from sd_toybox.meter.pose_judge import AbstractPoseJudge, PoseReading, RenderPoseJudge, ToyName
from sd_toybox.meter.rings import rings_of_views
from sd_toybox.world.captions import GRAMMAR, parse_caption

SMALLEST: Final = 32  # pixels


class MeterOptions(Options):
    """Who judges the poses."""

    judge: Literal["renders", "clip"] = option(
        "renders", "Renders of the true object, or the toybox's CLIP model and its pose head."
    )
    folder: str | None = option(
        None,
        "For judge 'clip': another folder that `python -m sd_toybox.train` made.",
        min_length=1,
    )


@dataclass(frozen=True, eq=False)
class Orbit:
    """All views of one object: where they were taken, and what a judge read off them.

    `rings` are the indices of the views of each elevation, once around.
    """

    azimuth: Float[Tensor, " views"]
    reading: PoseReading
    rings: list[Int[Tensor, " ring"]]


class AbstractOrbitMetric(AbstractMetric):
    """Views of one object, whose prompt names a toy, read as they come.

    All views since the last reset are of one object. There is no telling two objects of one prompt
    apart, but their views make no even ring, and that is an error.
    """

    needs_cameras: ClassVar[bool] = True

    def __init__(self, options: MeterOptions, context: MetricContext) -> None:
        self._judge = _judge(options, context)
        self.reset()

    def reset(self) -> None:
        self._prompt: str | None = None
        self._angles: list[Float[Tensor, "2 views"]] = []
        self._read: list[PoseReading] = []

    def update(self, images: Images, prompt: str, cameras: CameraBatch | None) -> None:
        assert cameras is not None  # needs_cameras
        if self._prompt not in (None, prompt):
            raise ConfigError(
                f"the views are of '{self._prompt}' and of '{prompt}', expected one object. "
                "Reset the metric between two."
            )
        reading = self.read(images, prompt, cameras)
        angles = torch.stack([cameras.azimuth, cameras.elevation]).detach()
        self._prompt = prompt
        self._angles.append(angles.to("cpu", torch.float32))
        self._read.append(reading)

    def read(self, images: Images, prompt: str, cameras: CameraBatch) -> PoseReading:
        """What the judge says of views of the object that a prompt names."""
        named = _named(prompt)
        _check(images)
        return self._judge.read(images, named, cameras)

    def orbit(self) -> Orbit:
        """Everything taken in since the last reset, which must be full circles."""
        if not self._read:
            raise ConfigError("the meter has seen no views yet: update it before it computes.")
        azimuth, elevation = torch.cat(self._angles, dim=1)
        rings = rings_of_views(azimuth, elevation)
        return Orbit(azimuth, PoseReading.concatenate(self._read), rings)


def _judge(options: MeterOptions, context: MetricContext) -> AbstractPoseJudge:
    if options.judge == "renders":
        return RenderPoseJudge()
    from sd_toybox.meter.clip_pose_judge import (
        ClipPoseJudge,  # imports transformers when it is built
    )
    from sd_toybox.model.folders import CLIP, find_folder

    return ClipPoseJudge(find_folder(options.folder) / CLIP, context.device)


def _named(prompt: str) -> ToyName:
    caption = parse_caption(prompt)
    if caption.kind is None or caption.colour is None:
        raise ConfigError(
            f"'{prompt}' names no object, and the meter must know whose face to look for. {GRAMMAR}"
        )
    return ToyName(caption.kind, caption.colour)


def _check(images: Images) -> None:
    """Refuses what has no colours, is too small, not square, or not finite."""
    _, channels, height, width = images.shape
    if channels != 3 or height != width or height < SMALLEST:
        raise ConfigError(
            f"the meter reads square views of 3 channels and at least {SMALLEST} pixels a side, "
            f"not {channels} channels of {height} x {width}. Render colour pictures."
        )
    if not bool(images.isfinite().all()):
        raise ConfigError("the views hold NaN or infinity, expected 0 to 1. Look at the scene.")
