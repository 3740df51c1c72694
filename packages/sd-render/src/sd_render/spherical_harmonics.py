"""Real spherical harmonics: smooth functions of a direction, from even to ever finer."""

from math import pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

MOST_DEGREES = 3


def spherical_harmonics(
    directions: Float[Tensor, "points 3"], degree: int
) -> Float[Tensor, "points basis"]:
    """Y_lm of unit directions (x, y, z) for l = 0 ... `degree` ≤ 3: (degree + 1)² functions.

    Column l² + l + m holds Y_lm, m = -l ... l: 1, y, z, x, xy, yz, 3z² - 1, xz, x² - y², ... up to
    factors. They are orthonormal: ∫ Y_i Y_j over the sphere is 1 for i = j, else 0.

    Signs as in 3-D Gaussian splatting and instant-ngp, which keep the Condon-Shortley phase: of the
    complex harmonics with that phase, Y_lm = √2·Im Y_l^|m| for m < 0, Y_l^0, √2·Re Y_l^m for m > 0.
    Where m is odd the factor is therefore negative: Y_11 = -√(3/4π)·x.
    """
    if not 0 <= degree <= MOST_DEGREES:
        raise ValueError(f"spherical harmonics of degree {degree}: 0 to {MOST_DEGREES} are known")
    x, y, z = directions.unbind(dim=-1)
    basis = [torch.full_like(x, sqrt(1 / (4 * pi)))]
    if degree >= 1:
        scale = sqrt(3 / (4 * pi))
        basis += [-scale * y, scale * z, -scale * x]
    if degree >= 2:
        basis += _second(x, y, z)
    if degree >= 3:
        basis += _third(x, y, z)
    return torch.stack(basis, dim=-1)


def _second(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    scale = sqrt(15 / (4 * pi))
    return [
        scale * x * y,
        -scale * y * z,
        sqrt(5 / (16 * pi)) * (3 * z * z - 1),
        -scale * x * z,
        scale / 2 * (x * x - y * y),
    ]


def _third(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    xx, yy, zz = x * x, y * y, z * z
    outer, middle, inner = sqrt(35 / (32 * pi)), sqrt(105 / (4 * pi)), sqrt(21 / (32 * pi))
    return [
        -outer * y * (3 * xx - yy),
        middle * x * y * z,
        -inner * y * (5 * zz - 1),
        sqrt(7 / (16 * pi)) * z * (5 * zz - 3),
        -inner * x * (5 * zz - 1),
        middle / 2 * z * (xx - yy),
        -outer * x * (xx - 3 * yy),
    ]
