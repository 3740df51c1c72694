"""What a toy is made of, and the paints that all toys share."""

from dataclasses import dataclass

from sd_toybox.world.paint import Mark, Paint, Shape
from sd_toybox.world.poses import Pose
from sd_toybox.world.primitives import AbstractSolid

BODY = Paint((0.0, 0.0, 0.0), 1.0)
DARK = Paint((0.0, 0.0, 0.0), 0.5)
TINT = Paint((0.40, 0.38, 0.34), 0.55)  # a face: the body's colour, paler
BLACK = Paint((0.06, 0.06, 0.08))
WHITE = Paint((0.97, 0.97, 0.97))
CHINA = Paint((0.84, 0.84, 0.86))
CREAM = Paint((0.93, 0.90, 0.80))
GLASS = Paint((0.35, 0.62, 0.80))
NAVY = Paint((0.08, 0.12, 0.35))
ORANGE = Paint((0.98, 0.55, 0.05))
ROSE = Paint((0.80, 0.20, 0.28))
WOOD = Paint((0.42, 0.24, 0.12))
YELLOW = Paint((1.0, 0.88, 0.25))


@dataclass(frozen=True)
class Part:
    """A solid, its paint, and the marks on it; a later mark covers an earlier one."""

    solid: AbstractSolid
    paint: Paint
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Toy:
    """Parts, none of which is inside of a camera."""

    parts: tuple[Part, ...]


def dressed(half: tuple[float, float]) -> tuple[Mark, ...]:
    """What every toy wears, on cloths of this half width and height in the middle of its solid.

    Right: black bars on cream. Left: black dots on white. Back: navy triangles on yellow.
    """
    return (
        *_cloth("right", half, CREAM, BLACK, "box", (3, 1), (0.5, 1.0)),
        *_cloth("left", half, WHITE, BLACK, "ellipse", (3, 3), (0.6, 0.6)),
        *_cloth("back", half, YELLOW, NAVY, "up", (3, 2), (0.9, 0.9)),
    )


def _cloth(
    side: Pose,
    half: tuple[float, float],
    ground: Paint,
    ink: Paint,
    shape: Shape,
    count: tuple[int, int],
    filled: tuple[float, float],
) -> tuple[Mark, ...]:
    """A box of the ground, cut into equal cells; a figure in each fills this share of its sides."""
    cell = (half[0] / count[0], half[1] / count[1])
    figures = tuple(
        Mark(
            side,
            shape,
            (cell[0] * (2 * column + 1) - half[0], cell[1] * (2 * row + 1) - half[1]),
            (cell[0] * filled[0], cell[1] * filled[1]),
            ink,
        )
        for row in range(count[1])
        for column in range(count[0])
    )
    return (Mark(side, "box", (0.0, 0.0), half, ground), *figures)
