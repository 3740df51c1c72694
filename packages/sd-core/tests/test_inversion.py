"""Inversion of Gaussian data against the closed-form map of the probability-flow ODE."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sd_core.inversion import (
    Level,
    ddim_invert,
    ddim_step,
    hop_variance,
    inversion_grid,
    level_at,
)
from sd_core.noising import NoiseSchedule, add_noise

MEAN, DEVIATION = 0.7, 0.4
LENGTH = 4096


def cosine(length: int = LENGTH) -> NoiseSchedule:
    """So fine that it is continuous for the purpose of counting hops, and smooth at t = 0."""
    angle = torch.arange(1, length + 1, dtype=torch.float64) / (length + 1) * (math.pi / 2)
    return NoiseSchedule(alphas=angle.cos(), sigmas=angle.sin())


SCHEDULES = {"cosine": cosine(), "flow": NoiseSchedule.rectified_flow(LENGTH)}


class GaussianPrior:
    """Data N(μ, s²) in each element: ε̂ = σ·(x − α·μ)/(α²·s² + σ²), exactly."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        self.schedule = schedule
        self.asked: list[list[int]] = []

    def predict_noise(self, noisy: Tensor, t: Tensor) -> Tensor:
        self.asked.append(t.tolist())
        alpha, sigma = level_at(self.schedule, t, noisy)
        return sigma * (noisy - alpha * MEAN) / (alpha**2 * DEVIATION**2 + sigma**2)

    def transported(self, clean: Tensor, t: Tensor) -> Tensor:
        """The ODE keeps every point at its quantile: (x_t − α·μ)/√(α²s² + σ²) = (x0 − μ)/s."""
        alpha, sigma = level_at(self.schedule, t, clean)
        width = (alpha**2 * DEVIATION**2 + sigma**2).sqrt()
        return alpha * MEAN + width * (clean - MEAN) / DEVIATION


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(batch: int = 2, side: int = 3) -> Tensor:
    draw = torch.randn(batch, 1, side, side, generator=generator(3), dtype=torch.float64)
    return MEAN + DEVIATION * draw


def error(name: str, steps: int) -> float:
    prior, clean, t = GaussianPrior(SCHEDULES[name]), data(), torch.tensor([3000, 1500])
    inverted = ddim_invert(
        clean, t=t, steps=steps, schedule=prior.schedule, predict_noise=prior.predict_noise
    )
    return float((inverted.noisy - prior.transported(clean, t)).abs().max())


@pytest.mark.parametrize("name", SCHEDULES)
def test_inversion_converges_to_the_closed_form_of_the_ode(name: str) -> None:
    assert error(name, 1024) < 4e-3


@pytest.mark.parametrize("name", SCHEDULES)
def test_inversion_is_of_first_order(name: str) -> None:
    errors = [error(name, steps) for steps in (16, 32, 64, 128)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(1.0, abs=0.2)


def test_more_hops_than_levels_change_nothing_more() -> None:
    schedule = NoiseSchedule.scaled_linear(steps=20)
    prior, clean, t = GaussianPrior(schedule), data(), torch.tensor([10, 3])
    exhaustive, beyond = (
        ddim_invert(
            clean, t=t, steps=steps, schedule=schedule, predict_noise=prior.predict_noise
        ).noisy
        for steps in (30, 60)
    )
    torch.testing.assert_close(exhaustive, beyond, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("eta", [0.0, 0.3])
def test_inverted_noise_satisfies_the_forward_process(name: str, eta: float) -> None:
    prior, clean, t = GaussianPrior(SCHEDULES[name]), data(), torch.tensor([3000, 1500])
    inverted = ddim_invert(
        clean,
        t=t,
        steps=7,
        schedule=prior.schedule,
        predict_noise=prior.predict_noise,
        generator=generator(),
        eta=eta,
    )
    assert inverted.clean is clean
    assert inverted.t is t
    again = add_noise(prior.schedule, inverted.clean, inverted.noise, t)
    torch.testing.assert_close(inverted.noisy, again, atol=1e-12, rtol=0)


def test_the_network_is_asked_at_the_level_that_each_hop_leaves() -> None:
    prior = GaussianPrior(NoiseSchedule.scaled_linear())
    ddim_invert(
        data(),
        t=torch.tensor([900, 300]),
        steps=3,
        schedule=prior.schedule,
        predict_noise=prior.predict_noise,
    )
    assert prior.asked == [[0, 0], [300, 100], [600, 200]]


def test_the_grid_is_even_for_each_sample_and_ends_at_its_t() -> None:
    grid = inversion_grid(torch.tensor([900, 10, 1, 0]), 4)
    assert grid.T.tolist() == [[0, 225, 450, 675, 900], [0, 3, 5, 8, 10], [0, 0, 1, 1, 1], [0] * 5]
    assert grid.dtype == torch.int64


def test_one_hop_is_noising_with_the_predicted_noise() -> None:
    prior, clean, t = GaussianPrior(NoiseSchedule.scaled_linear()), data(), torch.tensor([700, 40])
    inverted = ddim_invert(
        clean, t=t, steps=1, schedule=prior.schedule, predict_noise=prior.predict_noise
    )
    predicted = prior.predict_noise(clean, torch.zeros_like(t))
    torch.testing.assert_close(inverted.noise, predicted, atol=1e-12, rtol=0)


def test_samples_are_inverted_independently() -> None:
    prior, clean, t = GaussianPrior(cosine()), data(3), torch.tensor([4000, 90, 2000])
    together = ddim_invert(
        clean, t=t, steps=9, schedule=prior.schedule, predict_noise=prior.predict_noise
    )
    for i in range(3):
        alone = ddim_invert(
            clean[i : i + 1],
            t=t[i : i + 1],
            steps=9,
            schedule=prior.schedule,
            predict_noise=prior.predict_noise,
        )
        torch.testing.assert_close(together.noisy[i : i + 1], alone.noisy, atol=1e-12, rtol=0)


def levels(*t: int) -> list[Level]:
    like = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    schedule = NoiseSchedule.scaled_linear()
    return [level_at(schedule, torch.tensor([index]), like) for index in t]


def test_a_step_with_the_same_noise_is_undone_exactly() -> None:
    low, high = levels(100, 800)
    noisy, noise = data(1), torch.randn(1, 1, 3, 3, generator=generator(), dtype=torch.float64)
    there = ddim_step(noisy, noise, start=low, end=high)
    back = ddim_step(there, noise, start=high, end=low)
    torch.testing.assert_close(back, noisy, atol=1e-12, rtol=0)


def test_a_step_with_the_true_noise_stays_on_its_straight_line() -> None:
    schedule, clean = NoiseSchedule.scaled_linear(), data(1)
    noise = torch.randn(1, 1, 3, 3, generator=generator(), dtype=torch.float64)
    low, high = levels(100, 800)
    at_low, at_high = (
        add_noise(schedule, clean, noise, torch.tensor([index])) for index in (100, 800)
    )
    moved = ddim_step(at_low, noise, start=low, end=high)
    torch.testing.assert_close(moved, at_high, atol=1e-12, rtol=0)


def test_a_step_to_the_same_level_changes_nothing() -> None:
    (level,) = levels(500)
    noisy = data(1)
    moved = ddim_step(noisy, torch.ones_like(noisy), start=level, end=level)
    torch.testing.assert_close(moved, noisy, atol=1e-14, rtol=0)


def there_and_back(steps: int) -> float:
    prior, clean, t = GaussianPrior(cosine()), data(), torch.tensor([3000, 1500])
    noisy = ddim_invert(
        clean, t=t, steps=steps, schedule=prior.schedule, predict_noise=prior.predict_noise
    ).noisy
    grid = inversion_grid(t, steps).flip(0)
    for start, end in pairwise(grid):
        noisy = ddim_step(
            noisy,
            prior.predict_noise(noisy, start),
            start=level_at(prior.schedule, start, noisy),
            end=level_at(prior.schedule, end, noisy),
        )
    return float((noisy - clean).abs().max())


def test_inverting_and_denoising_returns_the_latents() -> None:
    assert there_and_back(1024) < 5e-3


def test_the_way_back_is_of_first_order() -> None:
    errors = [there_and_back(steps) for steps in (32, 64, 128, 256)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(1.0, abs=0.15)


def test_inversion_without_eta_is_deterministic_and_draws_nothing() -> None:
    prior, clean, t = GaussianPrior(cosine()), data(), torch.tensor([3000, 1500])
    source = generator()
    before, globally = source.get_state(), torch.get_rng_state()
    first, second = (
        ddim_invert(
            clean,
            t=t,
            steps=5,
            schedule=prior.schedule,
            predict_noise=prior.predict_noise,
            generator=given,
        )
        for given in (source, None)
    )
    assert torch.equal(first.noisy, second.noisy)
    assert torch.equal(source.get_state(), before)
    assert torch.equal(torch.get_rng_state(), globally)


def test_hop_variance_is_the_released_formula_where_variance_is_preserved() -> None:
    low, high = levels(100, 300)
    a, b = float(low.alpha) ** 2, float(high.alpha) ** 2
    expected = (1 - a) / (1 - b) * (1 - b / a)
    assert float(hop_variance(start=low, end=high)) == pytest.approx(expected, abs=1e-13)


def test_hop_variance_vanishes_from_clean_latents_and_without_a_hop() -> None:
    (level,) = levels(400)
    clean = Level(torch.ones_like(level.alpha), torch.zeros_like(level.sigma))
    assert float(hop_variance(start=clean, end=level)) == 0.0
    schedule = NoiseSchedule.scaled_linear()
    every = level_at(schedule, torch.arange(len(schedule)), torch.zeros(1, dtype=torch.float32))
    assert torch.equal(hop_variance(start=every, end=every), torch.zeros_like(every.sigma))


def test_noise_of_eta_has_the_variance_of_its_formula() -> None:
    # With no predicted noise a hop multiplies by α_b/α_a, so the variances add up in closed form.
    schedule, t, eta = NoiseSchedule.scaled_linear(), torch.tensor([900]), 0.3
    clean = torch.zeros(1, 4, 64, 64, dtype=torch.float64)
    noisy = ddim_invert(
        clean,
        t=t,
        steps=3,
        schedule=schedule,
        predict_noise=lambda noisy, t: torch.zeros_like(noisy),
        generator=generator(),
        eta=eta,
    ).noisy
    first, second, third = levels(300, 600, 900)
    variance = eta**2 * (
        hop_variance(start=first, end=second) * (third.alpha / second.alpha) ** 2
        + hop_variance(start=second, end=third)
    )
    # Over 16384 values: 3 % is 2.7 standard errors of a variance; the mean's is 1/128 of the width.
    assert float(noisy.var()) == pytest.approx(float(variance), rel=0.03)
    assert abs(float(noisy.mean())) < 4 / 128 * math.sqrt(float(variance))


def test_eta_draws_the_same_noise_from_equal_generators() -> None:
    prior, clean, t = GaussianPrior(cosine()), data(), torch.tensor([3000, 1500])
    same, again, other = (
        ddim_invert(
            clean,
            t=t,
            steps=5,
            schedule=prior.schedule,
            predict_noise=prior.predict_noise,
            generator=generator(seed),
            eta=0.3,
        ).noisy
        for seed in (1, 1, 2)
    )
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_latents_are_left_untouched() -> None:
    prior, clean = GaussianPrior(cosine()), data()
    before = clean.clone()
    ddim_invert(
        clean,
        t=torch.tensor([3000, 1500]),
        steps=3,
        schedule=prior.schedule,
        predict_noise=prior.predict_noise,
        generator=generator(),
        eta=1.0,
    )
    assert torch.equal(clean, before)


def test_eta_without_a_generator_is_refused() -> None:
    prior = GaussianPrior(cosine())
    with pytest.raises(ValueError, match="a generator is needed"):
        ddim_invert(
            data(),
            t=torch.tensor([3000, 1500]),
            steps=3,
            schedule=prior.schedule,
            predict_noise=prior.predict_noise,
            eta=0.3,
        )


def test_no_hops_are_refused() -> None:
    prior = GaussianPrior(cosine())
    with pytest.raises(ValueError, match="steps is 0"):
        ddim_invert(
            data(),
            t=torch.tensor([3000, 1500]),
            steps=0,
            schedule=prior.schedule,
            predict_noise=prior.predict_noise,
        )
