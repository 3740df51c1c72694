"""Cameras and measures that several tests of the world share."""

from math import radians

import torch
from torch import Tensor

from sd_core.cameras import CameraBatch, orbit_cameras


def cameras_at(azimuths: list[float] | Tensor, elevation: float = 0.0) -> CameraBatch:
    azimuth = torch.as_tensor(azimuths, dtype=torch.get_default_dtype())
    return orbit_cameras(
        azimuth=azimuth,
        elevation=torch.full_like(azimuth, elevation),
        distance=torch.full_like(azimuth, 2.0),
        vertical_fov=torch.full_like(azimuth, radians(40)),
    )


def silhouettes(images: Tensor) -> Tensor:
    """Where there is something before the white."""
    return (images < 0.999).any(dim=1)


def overlap(one: Tensor, other: Tensor) -> float:
    """Intersection over union of two masks."""
    return float((one & other).sum() / (one | other).sum())
