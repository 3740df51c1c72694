"""From where an object is seen: azimuths, and the four names for them."""

from math import pi
from typing import Literal, get_args

from jaxtyping import Float, Int
from torch import Tensor

Pose = Literal["front", "right", "back", "left"]

# In the order of growing azimuth. "Right" is what stands at the right of a camera at the front.
POSES: tuple[Pose, ...] = get_args(Pose)


def pose_indices(azimuth: Float[Tensor, " views"]) -> Int[Tensor, " views"]:
    """Which of `POSES` each azimuth (radians, any turn) is nearest to: round(a/90°) mod 4."""
    return (azimuth / (pi / 2)).round().long().remainder(4)


def pose_class(azimuth: float) -> Pose:
    """The same for one azimuth: front within 45° of 0, right of 90°, back of 180°, left of 270°."""
    return POSES[round(azimuth / (pi / 2)) % 4]
