"""Rays in and out of the cube, against samples along them."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

from sd_render.ray_box import ray_box

STEPS = 4001
REACH = 8.0


def random_rays(count: int, spread: float) -> tuple[Tensor, Tensor]:
    """Origins in ± spread, directions towards points near the cube."""
    generator = torch.Generator().manual_seed(int(10 * spread))
    origins, targets = torch.rand(2, count, 3, generator=generator, dtype=torch.float64) * 2 - 1
    return spread * origins, normalize(1.5 * targets - spread * origins, dim=-1)


def one(origin: list[float], direction: list[float], half_extent: float = 1.0) -> list[float]:
    near, far = ray_box(torch.tensor([origin]), torch.tensor([direction]), half_extent)
    return [near.item(), far.item()]


@pytest.mark.parametrize("half_extent", [0.5, 1.0])
@pytest.mark.parametrize("spread", [0.4, 3.0])
def test_the_interval_holds_what_samples_find_inside(spread: float, half_extent: float) -> None:
    origins, directions = random_rays(400, spread)
    near, far = ray_box(origins, directions, half_extent)
    t = torch.linspace(0, REACH, STEPS, dtype=torch.float64)
    points = origins[:, None] + t[:, None] * directions[:, None]
    inside = (points.abs() <= half_extent).all(dim=-1)
    between = (t >= near[:, None]) & (t <= far[:, None]) & (far > near)[:, None]
    assert torch.equal(inside, between)
    assert inside.any(dim=1).sum() > 50
    if spread > 1:
        assert (~inside.any(dim=1)).sum() > 50


def test_a_miss_has_length_zero_and_finite_ends() -> None:
    origins, directions = random_rays(400, 3.0)
    near, far = ray_box(origins, directions, 0.5)
    missed = near == far
    assert missed.any() and not missed.all()
    assert near.isfinite().all() and far.isfinite().all()
    assert (far >= near).all() and (near >= 0).all()


def test_the_ends_are_on_faces() -> None:
    origins, directions = random_rays(400, 3.0)
    near, far = ray_box(origins, directions, 0.7)
    for hit, end in (((far > near) & (near > 0), near), (far > near, far)):
        assert hit.sum() > 100
        largest = (origins + end[:, None] * directions)[hit].abs().amax(dim=-1)
        assert_close(largest, torch.full_like(largest, 0.7))


def test_a_camera_inside_starts_at_zero() -> None:
    assert one([0.0, 0.0, 0.0], [1.0, 0.0, 0.0]) == [0.0, 1.0]
    assert one([0.5, 0.0, 0.0], [0.0, -0.6, 0.8], half_extent=2.0) == [0.0, 2.5]


def test_what_is_behind_the_camera_is_missed() -> None:
    assert one([3.0, 0.0, 0.0], [1.0, 0.0, 0.0]) == [0.0, 0.0]
    assert one([3.0, 0.0, 0.0], [-1.0, 0.0, 0.0]) == [2.0, 4.0]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_rays_along_a_slab_are_inside_or_outside(zero: float) -> None:
    assert one([-3.0, 0.5, 0.5], [1.0, zero, zero]) == [2.0, 4.0]
    assert one([-3.0, 1.5, 0.5], [1.0, zero, zero]) == [0.0, 0.0]
    assert one([-3.0, 0.5, -1.5], [1.0, zero, zero]) == [0.0, 0.0]


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_rays_along_faces_and_edges_are_inside(zero: float, side: float) -> None:
    assert one([-3.0, side, 0.0], [1.0, zero, zero]) == [2.0, 4.0]
    assert one([-3.0, side, side], [1.0, zero, zero]) == [2.0, 4.0]
    assert one([-1.0, side, 0.0], [1.0, zero, zero]) == [0.0, 2.0]


def test_a_camera_on_a_face_looks_in_or_out() -> None:
    assert one([1.0, 0.2, 0.0], [-1.0, 0.0, 0.0]) == [0.0, 2.0]
    assert one([1.0, 0.2, 0.0], [1.0, 0.0, 0.0]) == [0.0, 0.0]


def test_directions_too_small_to_divide_by_give_no_nan() -> None:
    assert one([-3.0, 0.5, 1.0], [1.0, 1e-42, -1e-42]) == [2.0, 4.0]
    assert one([-3.0, 1.5, 1.0], [1.0, 1e-42, -1e-42]) == [0.0, 0.0]


def test_no_rays_have_no_intervals() -> None:
    near, far = ray_box(torch.zeros(0, 3), torch.zeros(0, 3), 1.0)
    assert near.shape == far.shape == (0,)
