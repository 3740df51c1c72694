"""Hand-made toys with two and three faces, to see that they are counted.

The orbit is cut into as many sectors as there are faces. Around the middle of each, the surface
has the paint of the toy's front; around the border of two sectors, that of its right or left side.
What stands beside a toy on its right or left, such as ears, stands at such a border. There is no
back. `draw_toy` draws them all.
"""

from dataclasses import dataclass, replace
from math import cos, pi, radians, sin, tau
from typing import Final, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sd_toybox.world.kinds import toy
from sd_toybox.world.paint import Mark
from sd_toybox.world.poses import POSES, Pose
from sd_toybox.world.primitives import AbstractSolid, Columns, PerRay, Triple
from sd_toybox.world.toys import Part, Toy

# To each side of a face, as far as a view counts as frontal. Of three faces a little less, or the
# side between two, whose face is plain and wide as the bus's, would not be seen at all.
FACE_HALF: Final = {2: pi / 4, 3: radians(42.5)}


@dataclass(frozen=True)
class _Place:
    """A pose of the true toy that is seen around azimuth `middle`, `half` to each side."""

    pose: Pose
    middle: float
    half: float

    @property
    def turn(self) -> float:
        """About the vertical axis, from where the pose is on the true toy."""
        return self.middle - POSES.index(self.pose) * pi / 2


@dataclass(frozen=True)
class TurnedMark(Mark):
    """A mark that is turned about its solid's vertical axis, and cut off outside of its place."""

    place: _Place

    def covers(self, points: Columns, normals: Columns) -> Bool[Tensor, " rays"]:
        apart = torch.atan2(points[1], points[0]) - self.place.middle
        inside = apart.cos() > cos(self.place.half)
        back = _rotation(-self.place.turn, points)
        return inside & super().covers(back @ points, back @ normals)


@dataclass(frozen=True)
class TurnedSolid(AbstractSolid):
    """A solid that is turned about its own vertical axis."""

    solid: AbstractSolid
    turn: float

    @property
    def reach(self) -> float:
        return self.solid.reach

    def _distance(self, origins: Columns, directions: Columns) -> PerRay:
        back = _rotation(-self.turn, origins)
        return self.solid._distance(back @ origins, back @ directions)

    def _normals(self, points: Columns) -> Columns:
        unturned = self.solid._normals(_rotation(-self.turn, points) @ points)
        return _rotation(self.turn, points) @ unturned


def many_faced(kind: str, faces: Literal[2, 3]) -> Toy:
    """The toy of a kind, with faces at azimuth 0, 360°/faces, ..."""
    places = _places(faces)
    parts = []
    for part in toy(kind).parts:
        side = _side(part.solid.centre)
        if side is None:
            parts.append(replace(part, marks=_repeated(part.marks, places)))
        else:
            parts += [_turned(part, place.turn) for place in places if place.pose == side]
    return Toy(tuple(parts))


def _places(faces: Literal[2, 3]) -> list[_Place]:
    """Faces, and a side between each two: right after the first face, left before it."""
    sector, half = tau / faces, FACE_HALF[faces]
    places = [_Place("front", face * sector, half) for face in range(faces)]
    for border in range(faces):
        pose: Pose = "right" if border < faces / 2 else "left"
        places.append(_Place(pose, (border + 0.5) * sector, sector / 2 - half))
    return places


def _side(centre: Triple) -> Pose | None:
    """The side that something stands beside the toy on; None within it, and at its corners."""
    x, y, _ = centre
    if x != 0 or y == 0:
        return None
    return "right" if y > 0 else "left"


def _repeated(marks: tuple[Mark, ...], places: list[_Place]) -> tuple[Mark, ...]:
    """The marks of a pose at each of its places, in the order in which they cover each other."""
    return tuple(
        TurnedMark(mark.side, mark.shape, mark.at, mark.half, mark.paint, place)
        for mark in marks
        for place in places
        if place.pose == mark.side
    )


def _turned(part: Part, turn: float) -> Part:
    """A part without marks, on its way around the toy."""
    assert not part.marks
    x, y, z = part.solid.centre
    centre = (x * cos(turn) - y * sin(turn), x * sin(turn) + y * cos(turn), z)
    return Part(TurnedSolid(centre, part.solid, turn), part.paint)


def _rotation(turn: float, like: Tensor) -> Float[Tensor, "3 3"]:
    """Turns columns about the vertical axis, from +x towards +y."""
    c, s = cos(turn), sin(turn)
    return like.new_tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
