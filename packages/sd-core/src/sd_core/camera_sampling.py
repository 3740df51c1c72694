"""Random training cameras, as the threestudio family draws them, from one generator.

Defaults are those that ProlificDreamer, ESD, JSD and the bridge share: close (distance 1.0 to 1.5),
wide (40° to 70°), from just below the horizon to 45° above it, without jitter.
"""

import math
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn.functional import normalize

from sd_core.cameras import CameraBatch, look_at, orbit_cameras
from sd_core.config import Options, option
from sd_core.shapes import PerSample


def _low_end_first(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    if low > high:
        raise ValueError(
            f"the range begins at {low:g} and ends at {high:g}: "
            f"write the low end first, [{high:g}, {low:g}]"
        )
    return ends


_Elevation = Annotated[float, Field(ge=-90, le=90)]
_Azimuth = Annotated[float, Field(ge=-360, le=360)]
_Length = Annotated[float, Field(gt=0)]
_FieldOfView = Annotated[float, Field(gt=0, lt=180)]
_Ordered = AfterValidator(_low_end_first)


class CameraOptions(Options):
    """Which cameras a training step sees. A range is [low, high]; equal ends fix the value."""

    batch: int = option(1, "Cameras a step.", ge=1)
    elevation_deg: Annotated[tuple[_Elevation, _Elevation], _Ordered] = option(
        (-10.0, 45.0), "Height above the horizon in degrees, -90 to 90; 90 looks straight down."
    )
    azimuth_deg: Annotated[tuple[_Azimuth, _Azimuth], _Ordered] = option(
        (-180.0, 180.0), "Turn around the object in degrees, -360 to 360; 0 faces its front."
    )
    distance: Annotated[tuple[_Length, _Length], _Ordered] = option(
        (1.0, 1.5), "Distance from the origin in world units, above 0 (DreamFusion, SDI: 1.5 to 2)."
    )
    vertical_fov_deg: Annotated[tuple[_FieldOfView, _FieldOfView], _Ordered] = option(
        (40.0, 70.0), "Vertical field of view in degrees, between 0 and 180."
    )
    stratified_azimuth: bool = option(
        True, "Cut the azimuth range in as many equal parts as there are cameras, one each."
    )
    elevation_law: Literal["degrees", "sphere", "both"] = option(
        "both", "Elevation uniform in degrees, uniform in area, or a coin for each batch."
    )
    position_jitter: float = option(
        0.0, "Shift of the camera, uniform in ± this, each axis (threestudio: 0.1).", ge=0.0
    )
    target_jitter: float = option(
        0.0,
        "Deviation of the target point, normal, each axis (threestudio: 0.2).",
        ge=0.0,
    )
    up_jitter: float = option(
        0.0, "Deviation of the up vector, normal, each axis (threestudio: 0.02).", ge=0.0
    )
    light: Literal["camera", "dreamfusion"] = option(
        "dreamfusion", "At the camera, or towards camera + N(0, 1) at a distance of its own."
    )
    light_distance: Annotated[tuple[_Length, _Length], _Ordered] = option(
        (0.8, 1.5), "Distance of the dreamfusion light from the origin, above 0."
    )


def sample_cameras(options: CameraOptions, generator: torch.Generator) -> CameraBatch:
    """A batch of cameras on the generator's device.

    Every call draws the same count of numbers whatever the options, so that switching one of them
    on (a jitter, the light) leaves the others' values as they were. Row i of every draw belongs to
    camera i, except the coin of the elevation law, which the first camera throws for all.
    """
    batch, device = options.batch, generator.device
    uniform = torch.rand(batch, 6, generator=generator, device=device).unbind(dim=-1)
    azimuth, elevation, coin, distance, vertical_fov, light_distance = uniform
    box = torch.rand(batch, 3, generator=generator, device=device) * 2 - 1
    bell = torch.randn(batch, 3, 3, generator=generator, device=device)

    if options.stratified_azimuth:
        azimuth = (torch.arange(batch, device=device) + azimuth) / batch
    by_area = options.elevation_law == "both" and bool(coin[0] >= 0.5)
    if by_area or options.elevation_law == "sphere":
        elevation = _uniform_in_area(elevation, options.elevation_deg)
    else:
        elevation = _between(elevation, options.elevation_deg).deg2rad()
    cameras = orbit_cameras(
        azimuth=_between(azimuth, options.azimuth_deg).deg2rad(),
        elevation=elevation,
        distance=_between(distance, options.distance),
        vertical_fov=_between(vertical_fov, options.vertical_fov_deg).deg2rad(),
    )
    cameras = _jittered(cameras, options, box, bell[:, :2])
    light = cameras.position
    if options.light == "dreamfusion":
        towards = normalize(light + bell[:, 2], dim=-1)
        light = _between(light_distance, options.light_distance)[:, None] * towards
    return replace(cameras, light_position=light)


def _between(unit: PerSample, ends: tuple[float, float]) -> PerSample:
    """Low + u·(high - low), for u in [0, 1)."""
    low, high = ends
    return low + unit * (high - low)


def _uniform_in_area(unit: PerSample, elevation_deg: tuple[float, float]) -> PerSample:
    """Elevations in radians whose sine is uniform, as on a sphere (Archimedes' hat-box theorem)."""
    low, high = (math.sin(math.radians(end)) for end in elevation_deg)
    return torch.asin(_between(unit, (low, high)).clamp(-1, 1))  # rounding may pass the pole


def _jittered(
    cameras: CameraBatch, options: CameraOptions, box: Tensor, bell: Tensor
) -> CameraBatch:
    """Off the orbit, labels kept: position + U(±j), target N(0, j²), up z + N(0, j²), each axis."""
    if not (options.position_jitter or options.target_jitter or options.up_jitter):
        return cameras
    position = cameras.position + options.position_jitter * box
    target = options.target_jitter * bell[:, 0]
    up = position.new_tensor([0.0, 0.0, 1.0]) + options.up_jitter * bell[:, 1]
    return replace(cameras, camera_to_world=look_at(position, target, up))
