"""Every conversion against its definition, and there and back, on three kinds of schedule."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sd_core import parameterisation as p
from sd_core.noising import NoiseSchedule, add_noise

T = torch.tensor([0, 300, 700, 998])
SCHEDULES = {
    "variance-preserving": NoiseSchedule.scaled_linear(),
    "flow": NoiseSchedule.rectified_flow(),
    # Neither α² + σ² = 1 nor α + σ = 1: the general formulas are needed.
    "neither": NoiseSchedule(
        alphas=torch.linspace(0.9, 0.2, 1000, dtype=torch.float64),
        sigmas=torch.linspace(0.01, 3.0, 1000, dtype=torch.float64),
    ),
}
Conversion = Callable[..., Tensor]


class Point:
    """x0, ε, x_t, α and σ of one noised batch, with all its parameterisations by definition."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        source = torch.Generator().manual_seed(0)
        self.clean = torch.randn(4, 3, 4, 5, generator=source, dtype=torch.float64)
        self.noise = torch.randn(4, 3, 4, 5, generator=source, dtype=torch.float64)
        self.noisy = add_noise(schedule, self.clean, self.noise, T)
        self.alpha = schedule.alpha(T, self.clean)
        self.sigma = schedule.sigma(T, self.clean)
        self.velocity = self.alpha * self.noise - self.sigma * self.clean
        self.flow = self.noise - self.clean
        self.score = -self.noise / self.sigma


@pytest.fixture(params=SCHEDULES)
def point(request: pytest.FixtureRequest) -> Point:
    return Point(SCHEDULES[request.param])


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-12)


CONVERSIONS: dict[str, tuple[Conversion, str, str]] = {
    "clean_from_noise": (p.clean_from_noise, "noise", "clean"),
    "noise_from_clean": (p.noise_from_clean, "clean", "noise"),
    "velocity_from_noise": (p.velocity_from_noise, "noise", "velocity"),
    "noise_from_velocity": (p.noise_from_velocity, "velocity", "noise"),
    "clean_from_velocity": (p.clean_from_velocity, "velocity", "clean"),
    "flow_from_noise": (p.flow_from_noise, "noise", "flow"),
    "noise_from_flow": (p.noise_from_flow, "flow", "noise"),
    "clean_from_flow": (p.clean_from_flow, "flow", "clean"),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_every_conversion_agrees_with_the_definitions(name: str, point: Point) -> None:
    convert, given, wanted = CONVERSIONS[name]
    converted = convert(point.noisy, getattr(point, given), alpha=point.alpha, sigma=point.sigma)
    assert_same(converted, getattr(point, wanted))


def round_trip(point: Point, there: Conversion, back: Conversion) -> Tensor:
    # A prediction is not the true noise, so neither is this one.
    source = torch.Generator().manual_seed(9)
    guess = torch.randn(point.noise.shape, generator=source, dtype=torch.float64)
    other = there(point.noisy, guess, alpha=point.alpha, sigma=point.sigma)
    return back(point.noisy, other, alpha=point.alpha, sigma=point.sigma) - guess


def test_clean_round_trip_is_exact(point: Point) -> None:
    difference = round_trip(point, p.clean_from_noise, p.noise_from_clean)
    assert_same(difference, torch.zeros_like(difference))


def test_velocity_round_trip_is_exact(point: Point) -> None:
    difference = round_trip(point, p.velocity_from_noise, p.noise_from_velocity)
    assert_same(difference, torch.zeros_like(difference))


def test_flow_round_trip_is_exact(point: Point) -> None:
    difference = round_trip(point, p.flow_from_noise, p.noise_from_flow)
    assert_same(difference, torch.zeros_like(difference))


def test_score_round_trip_is_exact(point: Point) -> None:
    score = p.score_from_noise(point.noise, sigma=point.sigma)
    assert_same(p.noise_from_score(score, sigma=point.sigma), point.noise)


def test_clean_by_velocity_or_flow_is_clean_by_noise(point: Point) -> None:
    guess = torch.flip(point.noise, (0,))
    levels = {"alpha": point.alpha, "sigma": point.sigma}
    expected = p.clean_from_noise(point.noisy, guess, **levels)
    velocity = p.velocity_from_noise(point.noisy, guess, **levels)
    flow = p.flow_from_noise(point.noisy, guess, **levels)
    assert_same(p.clean_from_velocity(point.noisy, velocity, **levels), expected)
    assert_same(p.clean_from_flow(point.noisy, flow, **levels), expected)


def test_training_targets_are_the_definitions(point: Point) -> None:
    target = p.velocity_target(point.clean, point.noise, alpha=point.alpha, sigma=point.sigma)
    assert_same(target, point.velocity)
    assert_same(p.flow_target(point.clean, point.noise), point.flow)


def test_score_is_the_gradient_of_the_log_density_of_noised_latents(point: Point) -> None:
    noisy = point.noisy.clone().requires_grad_()
    log_density = -((noisy - point.alpha * point.clean) ** 2 / (2 * point.sigma**2)).sum()
    (gradient,) = torch.autograd.grad(log_density, noisy)
    torch.testing.assert_close(
        p.score_from_noise(point.noise, sigma=point.sigma), gradient, atol=1e-9, rtol=1e-9
    )


def test_pure_noise_keeps_velocity_and_flow_well_defined() -> None:
    noise = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    zero, one = torch.zeros(1, 1, 1, 1).double(), torch.ones(1, 1, 1, 1).double()
    clean = 0.5 * torch.ones_like(noise)
    velocity = p.velocity_target(clean, noise, alpha=zero, sigma=one)
    flow = p.flow_target(clean, noise)
    assert_same(p.noise_from_velocity(noise, velocity, alpha=zero, sigma=one), noise)
    assert_same(p.clean_from_velocity(noise, velocity, alpha=zero, sigma=one), clean)
    assert_same(p.noise_from_flow(noise, flow, alpha=zero, sigma=one), noise)
    assert_same(p.clean_from_flow(noise, flow, alpha=zero, sigma=one), clean)
