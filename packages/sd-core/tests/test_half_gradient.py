"""Gradients through what computes in float16."""

import pytest
import torch

from sd_core.priors.diffusion.half_gradient import differentiable_in_half
from sd_core.shapes import Images

SMALL = 2.0**-40  # float16 ends at 2^-24


def network(dtype):
    """Two convolutions and a curve, in `dtype`; float32 in and out."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.SiLU(), torch.nn.Conv2d(8, 4, 3)
    ).to(dtype)
    return lambda given: layers(given.to(dtype)).to(given.dtype)


def slope(given: Images, dtype, direction):
    given = given.detach().requires_grad_()
    differentiable_in_half(network(dtype), given, dtype).backward(direction)
    return given.grad


@pytest.fixture
def given():
    return torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def direction():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def test_a_gradient_of_any_size_has_the_same_bits(given, direction):
    usual = slope(given, torch.float16, direction)
    assert torch.equal(slope(given, torch.float16, SMALL * direction) / SMALL, usual)
    assert torch.equal(slope(given, torch.float16, direction / SMALL) * SMALL, usual)
    exact = slope(given, torch.float32, direction)
    assert (usual - exact).norm() < 2e-3 * exact.norm()


def test_a_small_gradient_beside_a_large_one_is_kept(given, direction):
    sizes = torch.tensor([1.0, SMALL]).view(2, 1, 1, 1)
    both = slope(given, torch.float16, sizes * direction)
    assert torch.equal(both / sizes, slope(given, torch.float16, direction))


@pytest.mark.parametrize("size", [0.0, 1e-44])
def test_a_gradient_of_next_to_nothing_stays_finite(given, direction, size):
    assert slope(given, torch.float16, size * direction).abs().max() < 1e-40


def test_in_float32_and_without_a_gradient_nothing_is_added(given):
    assert differentiable_in_half(lambda same: same, given, torch.float16) is given
    with_graph = given.clone().requires_grad_()
    assert differentiable_in_half(lambda same: same, with_graph, torch.float32) is with_graph
    with torch.no_grad():
        assert differentiable_in_half(lambda same: same, with_graph, torch.float16) is with_graph
