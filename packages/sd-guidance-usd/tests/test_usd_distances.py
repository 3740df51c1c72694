"""Distances and their gradient, against differences one by one."""

import pytest
import torch
from torch import Generator

from sd_guidance_usd.distances import distances


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=dtype)


def test_distances_are_the_lengths_of_all_differences():
    points, others = random(4, 3), random(5, 3, seed=1)
    expected = (points[:, None] - others).square().sum(dim=2).sqrt()
    torch.testing.assert_close(distances(points, others), expected)


def test_distances_have_the_right_slope_in_both_sets():
    points, others = random(4, 3).requires_grad_(), random(5, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(distances, (points, others))


@pytest.mark.parametrize("which", [0, 1])
def test_a_set_that_needs_no_gradient_gets_none(which):
    sets = [random(4, 3), random(5, 3, seed=1)]
    sets[which].requires_grad_()
    distances(*sets).sum().backward()
    assert sets[which].grad is not None
    assert sets[1 - which].grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_that_coincide_have_no_distance_and_no_slope(dtype):
    """Their squares do not cancel to the last bit."""
    points = (10 * random(50, 64)).to(dtype).requires_grad_()
    others = points.detach().clone()
    found = distances(points, others).diagonal()
    assert torch.equal(found, torch.zeros_like(found))
    found.sum().backward()
    assert torch.equal(points.grad, torch.zeros_like(points))


def test_the_slope_of_small_distances_is_not_rounded_away():
    """|p - q| = 1e-3 beside |p| = 20, in float32, against the same numbers in float64."""
    points = (2.0 + 1e-4 * random(6, 100)).float()
    others = (2.0 + 1e-4 * random(7, 100, seed=1)).float()
    weights = random(6, 7, seed=2, dtype=torch.float32)
    slopes = []
    for dtype in (torch.float64, torch.float32):
        at = points.to(dtype).requires_grad_()
        (distances(at, others.to(dtype)) * weights.to(dtype)).sum().backward()
        slopes.append(at.grad.double())
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-3, atol=1e-4)


def test_distances_in_float32_are_as_exact_as_float32_is():
    """Beside the differences one by one in float64, for sets far from the origin."""
    points, others = (5 + random(9, 64)).float(), (5 + random(8, 64, seed=1)).float()
    expected = (points.double()[:, None] - others.double()).square().sum(dim=2).sqrt()
    torch.testing.assert_close(distances(points, others).double(), expected, rtol=3e-7, atol=0)
