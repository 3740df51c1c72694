"""Spherical harmonics: orthonormal, and those of scipy with the stated signs."""

import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y
from torch import Tensor
from torch.testing import assert_close

from sd_render.spherical_harmonics import spherical_harmonics


def quadrature(polar: int = 8, around: int = 12) -> tuple[Tensor, Tensor]:
    """Directions and weights that are exact for polynomials up to degree 11 on the sphere."""
    z, weight = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(polar))
    turn = torch.arange(around, dtype=torch.float64) * math.tau / around
    flat = (1 - z**2).sqrt()[:, None]
    height = z[:, None].expand(-1, around)
    directions = torch.stack([flat * turn.cos(), flat * turn.sin(), height], dim=-1)
    return directions.view(-1, 3), (weight * math.tau / around).repeat_interleave(around)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_functions_are_orthonormal_on_the_sphere(degree: int) -> None:
    directions, weight = quadrature()
    basis = spherical_harmonics(directions, degree)
    count = (degree + 1) ** 2
    assert basis.shape == (len(directions), count)
    products = basis.T @ (weight[:, None] * basis)
    assert_close(products, torch.eye(count, dtype=torch.float64), atol=1e-13, rtol=0)


def test_order_and_signs_are_those_that_are_stated() -> None:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    x, y, z = directions.numpy().T
    polar, azimuth = np.arccos(z), np.arctan2(y, x)
    basis = spherical_harmonics(directions, 3).numpy()
    for l in range(4):  # noqa: E741
        for m in range(-l, l + 1):
            value = sph_harm_y(l, abs(m), polar, azimuth)
            parts = {-1: math.sqrt(2) * value.imag, 0: value.real, 1: math.sqrt(2) * value.real}
            np.testing.assert_allclose(basis[:, l * l + l + m], parts[np.sign(m)], atol=1e-13)


def test_the_first_four_along_the_axes() -> None:
    scale = math.sqrt(3 / (4 * math.pi))
    linear = spherical_harmonics(torch.eye(3, dtype=torch.float64), 1)
    expected = [[0, 0, -scale], [-scale, 0, 0], [0, scale, 0]]
    assert_close(linear[:, 1:], torch.tensor(expected, dtype=torch.float64))
    assert_close(linear[:, 0], torch.full((3,), 0.5 / math.sqrt(math.pi), dtype=torch.float64))


def test_lower_degrees_are_the_first_columns() -> None:
    directions, _ = quadrature()
    every = spherical_harmonics(directions, 3)
    for degree in range(3):
        few = spherical_harmonics(directions, degree)
        assert torch.equal(few, every[:, : few.shape[1]])


def test_precision_is_kept() -> None:
    assert spherical_harmonics(torch.eye(3), 3).dtype == torch.float32


@pytest.mark.parametrize("degree", [-1, 4])
def test_other_degrees_are_refused(degree: int) -> None:
    with pytest.raises(ValueError, match="0 to 3 are known"):
        spherical_harmonics(torch.eye(3), degree)
