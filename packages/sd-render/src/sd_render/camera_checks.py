"""Views that cannot be drawn, refused with the number of the camera."""

import math

import torch

from sd_core.cameras import CameraBatch
from sd_core.errors import ConfigError


def check_cameras(cameras: CameraBatch, object_radius: float) -> None:
    """Refuse a degenerate view, and a camera in the middle of the object, which sees nothing."""
    rotation = cameras.camera_to_world[:, :3, :3]
    finite = cameras.camera_to_world.flatten(1).isfinite().all(1) & cameras.vertical_fov.isfinite()
    if not finite.all():
        _refuse(~finite, "has a pose or a field of view that is not finite", "Correct it.")
    product = rotation @ rotation.mT
    identity = torch.eye(3, dtype=product.dtype, device=product.device)
    skew = (product - identity).flatten(1).abs().amax(1) > 1e-3
    if skew.any():
        _refuse(
            skew,
            "has axes that are not of length 1 and at right angles",
            "Make poses with sd_core.cameras.look_at or orbit_cameras.",
        )
    fov = cameras.vertical_fov
    flat = (fov <= 0) | (fov >= math.pi)
    if flat.any():
        _refuse(
            flat,
            f"has a field of view of {float(fov[flat][0].rad2deg()):.4g}°",
            "It must lie between 0° and 180°; CameraBatch holds radians.",
        )
    distance = cameras.position.norm(dim=1)
    inside = distance < object_radius
    if inside.any():
        _refuse(
            inside,
            f"stands {float(distance[inside][0]):.3g} from the origin, inside the object, whose "
            f"radius is {object_radius:.3g}",
            "Raise cameras.distance, or lower renderer.half_extent or renderer.blob_radius.",
        )


def _refuse(bad: torch.Tensor, what: str, remedy: str) -> None:
    raise ConfigError(f"camera {int(bad.nonzero()[0])} {what}. {remedy}")
