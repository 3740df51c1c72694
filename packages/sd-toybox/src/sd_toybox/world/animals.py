"""Toys with a face of flesh: a bear, a cat and a penguin."""

from sd_toybox.world.paint import Mark, Paint
from sd_toybox.world.primitives import Ellipsoid, Frustum
from sd_toybox.world.toys import (
    BLACK,
    BODY,
    DARK,
    ORANGE,
    ROSE,
    TINT,
    Part,
    Toy,
    dressed,
)

BEAR = Toy(
    (
        Part(
            Ellipsoid((0.0, 0.0, -0.07), (0.47, 0.47, 0.47)),
            BODY,
            (
                *dressed((0.37, 0.36)),
                Mark("front", "ellipse", (0.0, -0.01), (0.42, 0.41), TINT),
                Mark("front", "ellipse", (-0.18, 0.12), (0.07, 0.09), BLACK),
                Mark("front", "ellipse", (0.18, 0.12), (0.07, 0.09), BLACK),
                Mark("front", "ellipse", (0.0, -0.03), (0.11, 0.07), BLACK),
                Mark("front", "bowl", (0.0, -0.21), (0.21, 0.06), ROSE),
            ),
        ),
        Part(Ellipsoid((0.0, -0.26, 0.36), (0.12, 0.12, 0.12)), DARK),
        Part(Ellipsoid((0.0, 0.26, 0.36), (0.12, 0.12, 0.12)), DARK),
    )
)

CAT = Toy(
    (
        Part(
            Ellipsoid((0.0, 0.0, -0.10), (0.48, 0.48, 0.42)),
            BODY,
            (
                *dressed((0.38, 0.31)),
                Mark("front", "ellipse", (0.0, 0.0), (0.43, 0.36), TINT),
                Mark("front", "ellipse", (-0.19, 0.10), (0.11, 0.10), Paint((0.45, 0.75, 0.20))),
                Mark("front", "ellipse", (0.19, 0.10), (0.11, 0.10), Paint((0.45, 0.75, 0.20))),
                Mark("front", "ellipse", (-0.19, 0.10), (0.035, 0.09), BLACK),
                Mark("front", "ellipse", (0.19, 0.10), (0.035, 0.09), BLACK),
                Mark("front", "down", (0.0, -0.06), (0.07, 0.05), ROSE),
                Mark("front", "box", (-0.24, -0.12), (0.12, 0.015), BLACK),
                Mark("front", "box", (0.24, -0.12), (0.12, 0.015), BLACK),
                Mark("front", "box", (-0.22, -0.19), (0.11, 0.015), BLACK),
                Mark("front", "box", (0.22, -0.19), (0.11, 0.015), BLACK),
            ),
        ),
        Part(Frustum((0.0, -0.25, 0.33), 0.17, 0.0, 0.18), BODY),
        Part(Frustum((0.0, 0.25, 0.33), 0.17, 0.0, 0.18), BODY),
    )
)

PENGUIN = Toy(
    (
        Part(
            Ellipsoid((0.0, 0.0, 0.05), (0.39, 0.39, 0.51)),
            BODY,
            (
                *dressed((0.28, 0.38)),
                Mark("front", "ellipse", (0.0, -0.04), (0.31, 0.43), TINT),
                Mark("front", "ellipse", (-0.13, 0.24), (0.06, 0.08), BLACK),
                Mark("front", "ellipse", (0.13, 0.24), (0.06, 0.08), BLACK),
                Mark("front", "down", (0.0, 0.08), (0.14, 0.08), ORANGE),
            ),
        ),
        Part(Frustum((0.0, 0.0, -0.46), 0.33, 0.28, 0.045), ORANGE),
    )
)
