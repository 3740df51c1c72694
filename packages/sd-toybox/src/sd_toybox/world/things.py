"""Toys that are things with a face: a robot, a bus, a mug, a rocket and a house."""

from sd_toybox.world.paint import Mark
from sd_toybox.world.primitives import Block, Ellipsoid, Frustum
from sd_toybox.world.toys import (
    BLACK,
    BODY,
    CHINA,
    DARK,
    GLASS,
    ORANGE,
    ROSE,
    TINT,
    WHITE,
    WOOD,
    YELLOW,
    Part,
    Toy,
    dressed,
)

ROBOT = Toy(
    (
        Part(
            Block((0.0, 0.0, -0.07), (0.40, 0.40, 0.38), 0.23),
            BODY,
            (
                *dressed((0.34, 0.32)),
                Mark("front", "box", (0.0, 0.0), (0.34, 0.32), TINT),
                Mark("front", "box", (-0.17, 0.14), (0.09, 0.09), GLASS),
                Mark("front", "box", (0.17, 0.14), (0.09, 0.09), GLASS),
                Mark("front", "box", (-0.17, 0.14), (0.04, 0.04), BLACK),
                Mark("front", "box", (0.17, 0.14), (0.04, 0.04), BLACK),
                Mark("front", "box", (0.0, -0.16), (0.24, 0.08), BLACK),
                Mark("front", "box", (-0.12, -0.16), (0.04, 0.05), WHITE),
                Mark("front", "box", (0.0, -0.16), (0.04, 0.05), WHITE),
                Mark("front", "box", (0.12, -0.16), (0.04, 0.05), WHITE),
            ),
        ),
        Part(Frustum((0.0, 0.0, 0.36), 0.05, 0.05, 0.08), DARK),
        Part(Ellipsoid((0.0, 0.0, 0.46), (0.10, 0.10, 0.10)), ROSE),
    )
)

_TYRES = tuple(
    Part(Ellipsoid((x, y, -0.33), (0.14, 0.14, 0.14)), BLACK)
    for x in (-0.25, 0.25)
    for y in (-0.25, 0.25)
)

BUS = Toy(
    (
        Part(
            Block((0.0, 0.0, 0.05), (0.41, 0.41, 0.40), 0.23),
            BODY,
            (
                *dressed((0.36, 0.32)),
                Mark("front", "box", (0.0, 0.12), (0.36, 0.22), GLASS),
                Mark("front", "box", (0.0, 0.12), (0.02, 0.22), BODY),
                Mark("front", "box", (0.0, -0.23), (0.38, 0.12), TINT),
                Mark("front", "ellipse", (-0.24, -0.22), (0.09, 0.09), YELLOW),
                Mark("front", "ellipse", (0.24, -0.22), (0.09, 0.09), YELLOW),
                Mark("front", "box", (0.0, -0.24), (0.11, 0.06), BLACK),
            ),
        ),
        *_TYRES,
    )
)

MUG = Toy(
    (
        Part(
            Frustum((0.0, 0.0, -0.04), 0.40, 0.45, 0.44),
            BODY,
            (
                *dressed((0.39, 0.34)),
                Mark("front", "box", (0.0, 0.0), (0.39, 0.34), TINT),
                Mark("front", "ellipse", (-0.17, 0.12), (0.07, 0.10), BLACK),
                Mark("front", "ellipse", (0.17, 0.12), (0.07, 0.10), BLACK),
                Mark("front", "bowl", (0.0, -0.14), (0.24, 0.11), ROSE),
            ),
        ),
        Part(Frustum((0.0, 0.0, 0.40), 0.39, 0.39, 0.005), WOOD),
        # A pale handle hardly changes the outline before white: a dark one tells the sides.
        Part(Block((0.0, -0.48, -0.02), (0.05, 0.03, 0.18)), CHINA),
        Part(Block((0.0, -0.43, 0.14), (0.05, 0.06, 0.03)), CHINA),
        Part(Block((0.0, -0.43, -0.18), (0.05, 0.06, 0.03)), CHINA),
    )
)

ROCKET = Toy(
    (
        Part(
            Frustum((0.0, 0.0, -0.12), 0.32, 0.32, 0.28),
            BODY,
            (
                *dressed((0.29, 0.25)),
                Mark("front", "box", (0.0, 0.02), (0.29, 0.25), TINT),
                Mark("front", "ellipse", (0.0, 0.02), (0.24, 0.23), DARK),
                Mark("front", "ellipse", (0.0, 0.02), (0.20, 0.19), GLASS),
                Mark("front", "ellipse", (-0.08, 0.08), (0.04, 0.05), BLACK),
                Mark("front", "ellipse", (0.08, 0.08), (0.04, 0.05), BLACK),
                Mark("front", "bowl", (0.0, -0.06), (0.10, 0.05), BLACK),
            ),
        ),
        Part(Frustum((0.0, 0.0, 0.26), 0.32, 0.22, 0.10), BODY),
        Part(Frustum((0.0, 0.0, 0.48), 0.22, 0.0, 0.12), BODY),
        Part(Block((0.0, 0.0, -0.36), (0.42, 0.03, 0.09)), DARK),
        Part(Block((0.0, 0.0, -0.36), (0.03, 0.42, 0.09)), DARK),
        Part(Block((0.0, 0.0, -0.21), (0.37, 0.03, 0.06)), DARK),
        Part(Block((0.0, 0.0, -0.21), (0.03, 0.37, 0.06)), DARK),
        Part(Ellipsoid((0.0, 0.0, -0.40), (0.20, 0.20, 0.15)), ORANGE),
    )
)

HOUSE = Toy(
    (
        Part(
            Block((0.0, 0.0, -0.16), (0.39, 0.39, 0.30), 0.22),
            BODY,
            (
                *dressed((0.36, 0.26)),
                Mark("front", "box", (0.0, 0.02), (0.36, 0.26), TINT),
                Mark("front", "box", (-0.20, 0.08), (0.10, 0.10), GLASS),
                Mark("front", "box", (0.20, 0.08), (0.10, 0.10), GLASS),
                Mark("front", "box", (0.0, -0.14), (0.10, 0.16), WOOD),
            ),
        ),
        Part(Frustum((0.0, 0.0, 0.34), 0.53, 0.0, 0.21), DARK),
    )
)
