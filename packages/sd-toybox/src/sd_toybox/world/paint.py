"""What solids are painted with: their own or the object's colour, and marks seen from one side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sd_toybox.world.poses import POSES, Pose
from sd_toybox.world.primitives import Columns, PerRay, Triple

BodyColours = Float[Tensor, "3 rays"]
Shape = Literal["ellipse", "box", "bowl", "ring", "up", "down"]

_RING = 0.55  # inner edge of a ring, as a share of the outer one


@dataclass(frozen=True)
class Paint:
    """colour = own + body_share·body: `own` is fixed, the body's colour is the object's."""

    own: Triple
    body_share: float = 0.0

    def colours(self, body: BodyColours) -> BodyColours:
        """For points of objects with these body colours."""
        return body * self.body_share + body.new_tensor(self.own)[:, None]


@dataclass(frozen=True)
class Mark:
    """A flat figure thrown onto a solid from one side, as by a slide projector.

    (u, v) is where the middle is, to the right and up for who stands on that side, from the
    solid's centre, in world units; `half` is half the width and half the height.
    """

    side: Pose
    shape: Shape
    at: tuple[float, float]
    half: tuple[float, float]
    paint: Paint

    def covers(self, points: Columns, normals: Columns) -> Bool[Tensor, " rays"]:
        """Which points it falls on; those that face away from the side never."""
        towards, rightwards = _AXES[self.side]
        facing = torch.tensor(towards, dtype=points.dtype) @ normals
        u = (torch.tensor(rightwards, dtype=points.dtype) @ points - self.at[0]) / self.half[0]
        v = (points[2] - self.at[1]) / self.half[1]
        return (facing > 0) & _inside(self.shape, u, v)


# For each side: where its viewer stands, and what is to the right for him.
_AXES: dict[Pose, tuple[Triple, Triple]] = dict(
    zip(
        POSES,
        (
            ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
            ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)),
            ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)),
            ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0)),
        ),
        strict=True,
    )
)


def _inside(shape: Shape, u: PerRay, v: PerRay) -> Bool[Tensor, " rays"]:
    """Whether (u, v) lies in the figure, which fills [-1, 1]²."""
    if shape == "box":
        return (u.abs() < 1) & (v.abs() < 1)
    if shape == "up":  # a triangle that stands on its base
        return (v > -1) & (2 * u.abs() + v < 1)
    if shape == "down":
        return (v < 1) & (2 * u.abs() - v < 1)
    if shape == "bowl":  # the lower half of an ellipse: a smile
        return (v < 1) & (u.square() + ((v - 1) / 2).square() < 1)
    distance = u.square() + v.square()
    if shape == "ring":
        return (distance < 1) & (distance > _RING**2)
    return distance < 1


def painted(
    marks: Sequence[Mark], paint: Paint, points: Columns, normals: Columns, body: BodyColours
) -> BodyColours:
    """The colours at the points; a later mark covers an earlier one."""
    colours = paint.colours(body)
    for mark in marks:
        colours = torch.where(mark.covers(points, normals), mark.paint.colours(body), colours)
    return colours
