"""Penalties on volumes, against closed forms."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from sd_render.regularisers import (
    depth_variance_loss,
    opaqueness,
    orientation,
    orientation_of_rays,
    sparsity,
    total_variation,
    weight_entropy,
    weight_entropy_of_rays,
)

LN2 = math.log(2)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bits(share: float) -> float:
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def test_sparsity_of_empty_and_full_pictures() -> None:
    assert sparsity(torch.zeros(2, 1, 4, 4)).item() == pytest.approx(0.1)
    assert sparsity(torch.ones(7)).item() == pytest.approx(math.sqrt(1.01))
    half = torch.tensor([0.0, 1.0])
    assert sparsity(half).item() == pytest.approx((0.1 + math.sqrt(1.01)) / 2)


def test_opaqueness_is_the_entropy_of_a_coin() -> None:
    assert opaqueness(torch.full((3, 3), 0.5)).item() == pytest.approx(LN2)
    two = torch.tensor([0.25, 0.9], dtype=torch.float64)
    assert opaqueness(two).item() == pytest.approx((bits(0.25) + bits(0.9)) / 2 * LN2)


def test_opaqueness_is_flat_and_finite_at_its_ends() -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    value = opaqueness(ends)
    assert value.item() == pytest.approx(bits(1e-3) * LN2)
    (slope,) = torch.autograd.grad(value, ends)
    assert_close(slope, torch.zeros(2, dtype=torch.float64))


def test_opaqueness_is_torch_s_cross_entropy_of_a_picture_with_itself() -> None:
    picture = 0.01 + 0.98 * uniform(2, 1, 5, 5)
    expected = torch.nn.functional.binary_cross_entropy(picture, picture)
    assert_close(opaqueness(picture), expected)


def test_weight_entropy_is_a_mean_of_bits_over_all_samples() -> None:
    weights = torch.tensor([0.5, 0.25, 0.5], dtype=torch.float64)
    of_rays = weight_entropy_of_rays(weights, torch.tensor([0, 0, 2]), 3)
    expected = torch.tensor([1 + bits(0.25), 0.0, 1.0], dtype=torch.float64)
    assert_close(of_rays, expected)
    assert weight_entropy(of_rays, 2).item() == pytest.approx((2 + bits(0.25)) / 6)


def test_weight_entropy_of_full_rays_is_prolificdreamer_s_mean() -> None:
    weights = uniform(5, 8) / 4
    ray = torch.arange(5).repeat_interleave(8)
    of_rays = weight_entropy_of_rays(weights.flatten(), ray, 5)
    coin = torch.distributions.Bernoulli(probs=weights)
    assert_close(weight_entropy(of_rays, 8), coin.entropy().mean() / LN2)


def test_weight_entropy_is_flat_and_finite_at_its_ends() -> None:
    ends = torch.tensor([0.0, 1.0], requires_grad=True)
    of_rays = weight_entropy_of_rays(ends, torch.tensor([0, 1]), 2)
    assert_close(of_rays, torch.full((2,), bits(1e-5)), atol=1e-6, rtol=0)
    (slope,) = torch.autograd.grad(of_rays.sum(), ends)
    assert_close(slope, torch.zeros(2))


def test_chunks_of_rays_make_the_same_map() -> None:
    ray = torch.tensor([0, 0, 1, 2, 2, 2, 3])
    weights, normals, directions = uniform(7) / 3, uniform(7, 3) - 0.5, uniform(4, 3) - 0.5
    early = ray < 2
    entropies, turns = [], []
    for part, first, rays in ((early, 0, 2), (~early, 2, 2)):
        few = directions[first : first + rays]
        entropies.append(weight_entropy_of_rays(weights[part], ray[part] - first, rays))
        turns.append(orientation_of_rays(weights[part], normals[part], few, ray[part] - first))
    assert_close(torch.cat(entropies), weight_entropy_of_rays(weights, ray, 4))
    assert_close(torch.cat(turns), orientation_of_rays(weights, normals, directions, ray))


def test_orientation_counts_normals_that_face_away() -> None:
    directions = torch.tensor([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    ray = torch.tensor([0, 0, 1])
    normals = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.6, -0.8], [1.0, 0.0, 0.0]])
    weights = torch.tensor([0.5, 0.25, 0.5])
    of_rays = orientation_of_rays(weights, normals, directions, ray)
    assert_close(of_rays, torch.tensor([0.25 * 0.64, 0.5, 0.0]))
    # The third ray sees nothing, so it is not counted.
    assert orientation(of_rays, torch.tensor([0.75, 0.5, 0.0])).item() == pytest.approx(0.33)


def test_orientation_turns_normals_and_leaves_weights() -> None:
    weights, normals = torch.ones(1, requires_grad=True), torch.ones(1, 3, requires_grad=True)
    ray, directions = torch.tensor([0]), torch.tensor([[1.0, 0.0, 0.0]])
    total = orientation_of_rays(weights, normals, directions, ray).sum()
    slopes = torch.autograd.grad(total, (weights, normals), allow_unused=True)
    assert slopes[0] is None
    assert slopes[1].tolist() == [[2.0, 0.0, 0.0]]


def test_orientation_of_nothing_is_zero() -> None:
    of_rays = torch.zeros(4, requires_grad=True)
    value = orientation(of_rays, torch.zeros(4))
    assert value.item() == 0
    value.backward()
    assert of_rays.grad is not None and of_rays.grad.isfinite().all()


def test_depth_variance_is_a_mean_over_what_is_opaque() -> None:
    variance = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    seen = torch.tensor([[0.9, 0.5], [0.51, 0.0]])
    assert depth_variance_loss(variance, seen).item() == pytest.approx(2.5)


def test_depth_variance_of_nothing_is_zero_with_a_slope_of_zero() -> None:
    variance = torch.ones(3, requires_grad=True)
    value = depth_variance_loss(variance, torch.tensor([0.5, 0.1, 0.0]))
    assert value.item() == 0
    (slope,) = torch.autograd.grad(value, variance)
    assert slope.tolist() == [0, 0, 0]


def test_total_variation_of_a_slope_is_the_sum_of_its_squares() -> None:
    line = torch.arange(4.0)
    x, y, z = torch.meshgrid(line, line[:3], line[:2], indexing="ij")
    grid = torch.stack([2 * x + 3 * y - 4 * z, torch.ones_like(x)])
    assert total_variation(grid).item() == pytest.approx((4 + 9 + 16) / 2)


def test_total_variation_is_that_of_a_loop() -> None:
    grid = uniform(2, 3, 4, 2)
    expected = 0.0
    for axis in (1, 2, 3):
        turned = grid.movedim(axis, 0)
        steps = [(turned[k + 1] - turned[k]) ** 2 for k in range(len(turned) - 1)]
        expected += float(torch.cat([each.flatten() for each in steps]).mean())
    assert total_variation(grid).item() == pytest.approx(expected)


def test_total_variation_of_one_cell_is_zero() -> None:
    assert total_variation(torch.ones(2, 1, 1, 1)).item() == 0
    assert total_variation(torch.arange(3.0).view(1, 1, 3, 1)).item() == 1


def test_gradients_are_those_of_finite_differences() -> None:
    picture = (0.1 + 0.8 * uniform(3, 4)).requires_grad_()
    assert gradcheck(sparsity, picture)
    assert gradcheck(opaqueness, picture)
    seen = uniform(3, 4, seed=1)
    assert gradcheck(lambda variance: depth_variance_loss(variance, seen), picture)
    assert gradcheck(lambda of_rays: orientation(of_rays, seen), picture)
    ray = torch.tensor([0, 0, 2, 2])
    weights = (0.1 + 0.3 * uniform(4)).requires_grad_()
    assert gradcheck(lambda w: weight_entropy_of_rays(w, ray, 3), weights)
    normals, directions = (uniform(4, 3) - 0.5).requires_grad_(), uniform(3, 3, seed=2) - 0.5
    assert gradcheck(lambda n: orientation_of_rays(weights.detach(), n, directions, ray), normals)
    assert gradcheck(total_variation, uniform(2, 2, 3, 2).requires_grad_())
