"""Weights and sums along packed rays, against loops, closed forms and nerfacc."""

import math
import warnings

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from sd_render.compositing import (
    along_rays,
    depth_variance,
    mean_depth,
    opacity,
    sample_weights,
    sum_of_rays,
)

LENGTHS = [0, 3, 1, 0, 5, 2, 0]


def packed(lengths: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights_one_by_one(density: Tensor, thickness: Tensor, ray: Tensor) -> list[float]:
    light, last, weights = 1.0, -1, []
    for sigma, delta, index in zip(density.tolist(), thickness.tolist(), ray.tolist(), strict=True):
        light = 1.0 if index != last else light
        last = index
        passed = light * math.exp(-sigma * delta)
        weights.append(light - passed)
        light = passed
    return weights


def random_case(seed: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Densities from 0 to 10^12, and rays without samples."""
    generator = torch.Generator().manual_seed(seed)
    rays = int(torch.randint(1, 40, (), generator=generator))
    lengths = torch.randint(0, 12, (rays,), generator=generator).tolist()
    ray = packed(lengths)
    kind, size, thickness = torch.rand(3, len(ray), generator=generator, dtype=torch.float64)
    density = torch.where(kind < 0.2, 0.0, torch.where(kind > 0.9, 1e12 * size, 10 * size))
    return density, thickness, ray, rays


@pytest.mark.parametrize("seed", range(60))
def test_weights_are_those_of_a_loop_and_sum_to_the_light_that_is_lost(seed: int) -> None:
    density, thickness, ray, rays = random_case(seed)
    weights = sample_weights(density, thickness, ray)
    slow = torch.tensor(weights_one_by_one(density, thickness, ray), dtype=torch.float64)
    assert_close(weights, slow, atol=1e-11, rtol=0)
    assert (weights >= 0).all()
    total = torch.tensor(
        [-math.expm1(-float((density[ray == k] * thickness[ray == k]).sum())) for k in range(rays)],
        dtype=torch.float64,
    )
    assert_close(opacity(weights, ray, rays), total, atol=1e-11, rtol=0)
    assert opacity(weights, ray, rays).max() <= 1 + 1e-12


def test_one_dense_ray_leaves_the_rays_after_it_alone() -> None:
    density = torch.tensor([1e30, 1e30, 0.3, 0.4])
    weights = sample_weights(density, torch.ones(4), torch.tensor([0, 0, 1, 1]))
    expected = [1.0, 0.0, 1 - math.exp(-0.3), math.exp(-0.3) - math.exp(-0.7)]
    assert_close(weights, torch.tensor(expected))


def test_a_picture_in_single_precision_is_right_to_a_millionth() -> None:
    rays, samples = 4096, 64
    ray = packed([samples] * rays)
    density, thickness = 40 * uniform(rays * samples), 0.01 * uniform(rays * samples, seed=1)
    single, narrow = density.float(), thickness.float()
    weights = sample_weights(single, narrow, ray)
    assert weights.dtype == torch.float32
    # Against a product of what each sample lets through, ray by ray.
    through = (-single.double() * narrow.double()).exp().view(rays, samples)
    behind = torch.cat([torch.ones(rays, 1, dtype=torch.float64), through.cumprod(dim=1)], dim=1)
    exact = (behind[:, :-1] - behind[:, 1:]).flatten()
    assert (weights - exact).abs().max() < 1e-7
    ahead = uniform(rays * samples, seed=2)
    summed = opacity(weights, ray, rays)
    assert (summed - opacity(exact, ray, rays)).abs().max() < 1e-6
    depth = mean_depth(weights, ahead.float(), ray, rays)
    assert (depth - mean_depth(exact, ahead, ray, rays)).abs().max() < 1e-6


def test_gradients_are_those_of_finite_differences() -> None:
    ray = packed(LENGTHS)
    density, thickness = 3 * uniform(len(ray)), uniform(len(ray), seed=1)
    inputs = (density.requires_grad_(), thickness.requires_grad_())
    assert gradcheck(lambda d, t: sample_weights(d, t, ray), inputs)
    weights = (0.1 + 0.4 * uniform(len(ray), seed=2)).requires_grad_()
    values = uniform(len(ray), 3, seed=3).requires_grad_()
    assert gradcheck(lambda w, v: along_rays(w, v, ray, len(LENGTHS)), (weights, values))
    distance = uniform(len(ray), seed=4).requires_grad_()
    for moment in (mean_depth, depth_variance):
        assert gradcheck(lambda w, t, f=moment: f(w, t, ray, len(LENGTHS)), (weights, distance))


def test_gradients_stay_finite_where_a_ray_is_black_or_empty() -> None:
    density = torch.tensor([1e20, 1.0, 0.0, 0.0], requires_grad=True)
    ray = torch.tensor([0, 0, 1, 3])
    weights = sample_weights(density, torch.full((4,), 0.1), ray)
    distance = torch.tensor([1.0, 2.0, 1.0, 1.0])
    total = mean_depth(weights, distance, ray, 4) + depth_variance(weights, distance, ray, 4)
    (slope,) = torch.autograd.grad(total.sum(), density)
    assert slope.isfinite().all()


def test_weights_are_those_of_nerfacc() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its docstrings have invalid escapes
        nerfacc = pytest.importorskip("nerfacc")
    rays, samples = 50, 20
    edges = uniform(rays, samples + 1).cumsum(dim=1)
    density = 2 * uniform(rays, samples, seed=1)
    theirs, _, _ = nerfacc.render_weight_from_density(edges[:, :-1], edges[:, 1:], density)
    ours = sample_weights(density.flatten(), edges.diff(dim=1).flatten(), packed([samples] * rays))
    assert_close(ours.view(rays, samples), theirs)


def test_a_slab_of_one_density_has_the_closed_forms() -> None:
    density, length, start, samples = 1.7, 2.0, 0.5, 4000
    thickness = torch.full((samples,), length / samples, dtype=torch.float64)
    distance = start + (torch.arange(samples, dtype=torch.float64) + 0.5) * length / samples
    ray = torch.zeros(samples, dtype=torch.int64)
    weights = sample_weights(torch.full_like(thickness, density), thickness, ray)
    lost = 1 - math.exp(-density * length)
    assert opacity(weights, ray, 1).item() == pytest.approx(lost, abs=1e-12)
    # The mean and the variance of an exponential law cut off at `length`.
    passed = 1 - lost
    mean = 1 / density - length * passed / lost
    square = 2 / density**2 - passed / lost * (length**2 + 2 * length / density)
    assert mean_depth(weights, distance, ray, 1).item() == pytest.approx(start + mean, abs=1e-6)
    variance = depth_variance(weights, distance, ray, 1).item()
    assert variance == pytest.approx(square - mean**2, abs=1e-6)


def test_sums_along_rays_are_those_of_a_loop() -> None:
    ray, rays = packed(LENGTHS), len(LENGTHS)
    weights, values = uniform(len(ray)), uniform(len(ray), 4, seed=1)
    summed, single = torch.zeros(rays, 4).double(), torch.zeros(rays).double()
    for weight, value, index in zip(weights, values, ray.tolist(), strict=True):
        summed[index] += weight * value
        single[index] += weight
    assert_close(along_rays(weights, values, ray, rays), summed)
    assert_close(opacity(weights, ray, rays), single)
    assert_close(sum_of_rays(weights * values[:, 0], ray, rays), summed[:, 0])


def test_moments_of_two_samples() -> None:
    # Ray 0 sees 1/4 at 1 and 1/2 at 4; ray 1 is half transparent to the digit, ray 3 a little
    # less so; ray 2 is empty.
    weights = torch.tensor([0.25, 0.5, 0.25, 0.25, 0.265625, 0.265625])
    distance = torch.tensor([1.0, 4.0, 1.0, 2.0, 1.0, 2.0])
    ray = torch.tensor([0, 0, 1, 1, 3, 3])
    assert_close(mean_depth(weights, distance, ray, 4), torch.tensor([3.0, 1.5, 0.0, 1.5]))
    assert_close(depth_variance(weights, distance, ray, 4), torch.tensor([2.0, 0.0, 0.0, 0.25]))


def test_no_samples_at_all_see_nothing() -> None:
    none, ray = torch.zeros(0, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    weights = sample_weights(none, none, ray)
    assert weights.shape == (0,)
    assert_close(opacity(weights, ray, 3), torch.zeros(3))
    assert_close(along_rays(weights, torch.zeros(0, 3), ray, 2), torch.zeros(2, 3))
    assert_close(depth_variance(weights, none, ray, 3), torch.zeros(3))
    mean_depth(weights, none, ray, 3).sum().backward()
