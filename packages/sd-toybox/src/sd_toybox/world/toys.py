"""What a toy is made of, and the paints that all toys share."""

from dataclasses import dataclass

from sd_toybox.world.paint import Mark, Paint
from sd_toybox.world.primitives import AbstractSolid

BODY = Paint((0.0, 0.0, 0.0), 1.0)
DARK = Paint((0.0, 0.0, 0.0), 0.5)
PALE = Paint((0.74, 0.70, 0.60), 0.25)  # a face, with a breath of the body
BLACK = Paint((0.06, 0.06, 0.08))
WHITE = Paint((0.97, 0.97, 0.97))
CHINA = Paint((0.84, 0.84, 0.86))
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
