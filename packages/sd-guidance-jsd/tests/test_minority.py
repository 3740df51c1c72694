"""Minority sampling on exact priors, and the grids of its inversion."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Generator

from sd_core.inversion import ddim_invert, ddim_step, level_at
from sd_core.noising import Noised, NoiseSchedule
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.testing import exact
from sd_guidance_jsd.fixed_grid import fixed_grid, hops_on_fixed_grid
from sd_guidance_jsd.minority import invert, minority_sample, standard_normal
from sd_guidance_jsd.options import InversionOptions

LENGTH = 4096
T = torch.tensor([3000, 1500])


def cosine():
    """So fine that it is continuous for the purpose of counting hops."""
    angle = torch.arange(1, LENGTH + 1, dtype=torch.float64) / (LENGTH + 1) * (math.pi / 2)
    return NoiseSchedule(alphas=angle.cos(), sigmas=angle.sin())


def two_modes(schedule):
    means = torch.tensor([[0.5, 0.0], [-0.5, 0.3]], dtype=torch.float64).view(2, 2, 1, 1)
    covariances = torch.tensor([[[0.4, 0.1], [0.1, 0.3]]] * 2, dtype=torch.float64)
    return GaussianMixturePrior(means, covariances, schedule=schedule)


def some(count=2, seed=3):
    generator = Generator().manual_seed(seed)
    return torch.randn(count, 2, 1, 1, generator=generator, dtype=torch.float64)


def ask(prior):
    return lambda noisy, t: prior.predict_noise(noisy, t, prior.encode_text([""] * len(noisy)))


def inverted(prior, latents, t, seed=0, **options):
    return invert(
        latents,
        t,
        options=InversionOptions(**options),
        schedule=prior.schedule,
        predict_noise=ask(prior),
        generator=Generator().manual_seed(seed),
    )


# The way up


def there_and_back(steps):
    """The error of sampling down the fixed grid from where the inversion arrived."""
    prior, clean = two_modes(cosine()), some()
    noisy = inverted(prior, clean, T, steps=steps, grid="fixed").noisy
    for start, end in pairwise(fixed_grid(T, T, steps=steps, length=LENGTH).flip(0)):
        noise = ask(prior)(noisy, start)
        levels = [level_at(prior.schedule, level, noisy) for level in (start, end)]
        noisy = ddim_step(noisy, noise, start=levels[0], end=levels[1])
    return float((noisy - clean).abs().max())


def test_up_and_down_the_fixed_grid_is_of_first_order():
    errors = [there_and_back(steps) for steps in (32, 64, 128, 256)]
    assert errors[-1] < 0.02
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(1.0, abs=0.15)


def test_both_grids_arrive_at_the_same_sample():
    prior, clean = two_modes(cosine()), some()
    even, fixed = (inverted(prior, clean, T, steps=1024, grid=g).noisy for g in ("even", "fixed"))
    torch.testing.assert_close(even, fixed, rtol=0, atol=5e-3)


def test_the_even_grid_is_the_cores_inversion_to_the_bit():
    prior, clean = two_modes(cosine()), some()
    expected = ddim_invert(clean, t=T, steps=7, schedule=prior.schedule, predict_noise=ask(prior))
    assert torch.equal(inverted(prior, clean, T, steps=7).noisy, expected.noisy)


def climbed_by_nothing(clean, t, schedule, **options):
    """With a network that says 0: x̂ = α_end·z on the even grid, (α_end/α_0)·z on the fixed one."""
    return invert(
        clean,
        t,
        options=InversionOptions(**options),
        schedule=schedule,
        predict_noise=lambda noisy, t: torch.zeros_like(noisy),
        generator=Generator().manual_seed(0),
    )


def left_of_the_clean(grid, schedule):
    """What the network that says 0 leaves of z at each level."""
    return schedule.alphas / (schedule.alphas[0] if grid == "fixed" else 1)


@pytest.mark.parametrize("grid", ["even", "fixed"])
def test_an_inverted_sample_counts_as_one_of_t_even_if_it_overshot(grid):
    schedule, clean = NoiseSchedule.scaled_linear(), torch.ones(2, 2, 1, 1, dtype=torch.float64)
    t = torch.tensor([300, 700])
    left = left_of_the_clean(grid, schedule)
    exactly = climbed_by_nothing(clean, t, schedule, grid=grid)
    torch.testing.assert_close(exactly.noisy, left[t].view(-1, 1, 1, 1) * clean)
    found = climbed_by_nothing(clean, t, schedule, grid=grid, overshoot=0.1)
    assert torch.equal(found.t, t) and found.clean is clean
    for i, index in enumerate(t.tolist()):
        value = float(found.noisy[i, 0, 0, 0])
        assert float(left[index + 99]) - 1e-9 <= value < float(left[index])
        # κ = (x̂ - α_t·z)/σ_t at z = 1, by the levels of t and not of where it ended
        kappa = (value - float(schedule.alphas[index])) / float(schedule.sigmas[index])
        assert found.noise[i].flatten().tolist() == pytest.approx([kappa] * 2, abs=1e-12)


def test_samples_climb_the_fixed_grid_independently():
    prior, clean, t = two_modes(cosine()), some(3), torch.tensor([4000, 2, 1700])
    together = inverted(prior, clean, t, grid="fixed").noisy
    for i in range(3):
        alone = inverted(prior, clean[i : i + 1], t[i : i + 1], grid="fixed").noisy
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", ["even", "fixed"])
def test_the_way_up_ends_at_most_the_overshoot_above_t_and_on_the_schedule(grid):
    """With a network that says 0, what is left of z tells where it ended."""
    schedule = NoiseSchedule.scaled_linear()
    clean, t = torch.ones(3000, 2, 1, 1, dtype=torch.float64), torch.tensor([300, 980]).repeat(1500)
    noisy = climbed_by_nothing(clean, t, schedule, grid=grid, overshoot=0.1).noisy[:, 0, 0, 0]
    ends = (left_of_the_clean(grid, schedule) - noisy.unsqueeze(1)).abs().argmin(1)
    low, high = ends[::2], ends[1::2]
    # 1,500 draws of 100 levels: both ends are among them.
    assert int(low.min()) == 300 and int(low.max()) == 399
    assert int(high.min()) >= 980 and int(high.max()) == 999


@pytest.mark.parametrize("grid", ["even", "fixed"])
def test_without_eta_and_overshoot_nothing_is_drawn(grid):
    prior, generator = two_modes(cosine()), Generator().manual_seed(0)
    before = generator.get_state()
    invert(
        some(),
        T,
        options=InversionOptions(grid=grid),
        schedule=prior.schedule,
        predict_noise=ask(prior),
        generator=generator,
    )
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("grid", ["even", "fixed"])
def test_noise_of_eta_has_the_released_variance(grid, eta):
    """With a network that says 0 a hop multiplies by α_b/α_a, so the variances add up."""
    schedule, t = NoiseSchedule.scaled_linear(), torch.tensor([350])
    clean = torch.zeros(1, 4, 64, 64, dtype=torch.float64)
    noisy = climbed_by_nothing(clean, t, schedule, grid=grid, eta=eta).noisy
    # The even grid leaves clean latents, ᾱ = 1; the fixed one counts them as a sample of level 0.
    levels = [0, 1, 101, 201, 301, 350] if grid == "fixed" else range(35, 351, 35)
    bars = [float(schedule.alphas[level]) ** 2 for level in levels]
    variance = 0.0
    for a, b in pairwise(bars if grid == "fixed" else [1.0, *bars]):
        variance = variance * b / a + eta**2 * (1 - a) / (1 - b) * (1 - b / a)
    # Over 16384 values 3 % is 2.7 standard errors of a variance.
    assert float(noisy.var()) == pytest.approx(variance, rel=0.03)


# The fixed grid


def test_the_fixed_grid_is_that_of_the_released_code():
    grid = fixed_grid(torch.tensor([250, 980]), torch.tensor([260, 999]), steps=10, length=1000)
    assert grid[:, 0].tolist() == [0, 1, 101, 201] + [260] * 8
    assert grid[:, 1].tolist() == [0, 1, *range(101, 1000, 100), 999]


def test_a_level_that_equals_t_is_no_hop_before_the_end_whatever_the_batch():
    grid = fixed_grid(torch.tensor([101, 980]), torch.tensor([150, 999]), steps=10, length=1000)
    assert grid[:, 0].tolist() == [0, 1] + [150] * 10


@pytest.mark.parametrize("t", [0, 1, 2, 100, 101, 102, 250, 555, 901, 902, 980, 999])
def test_a_low_t_takes_fewer_hops(t):
    grid = fixed_grid(torch.tensor([t]), torch.tensor([t]), steps=10, length=1000)
    assert grid.flatten().tolist() == [0, *(level for level in range(1, 1000, 100) if level < t), t]
    assert hops_on_fixed_grid(torch.tensor([t]), 10, 1000) == len(grid) - 1


def test_more_steps_than_levels_visit_every_level():
    grid = fixed_grid(torch.tensor([4]), torch.tensor([4]), steps=99, length=20)
    assert grid.flatten().tolist() == [0, 1, 2, 3, 4]


# The minority sample


def test_the_minority_sample_is_denoised_in_one_step_and_noised_at_the_same_t():
    # α = 0.8, σ = 0.6: x̄_0 = (2 - 0.6·0.5)/0.8 and x̄_t = 0.8·x̄_0 + 0.6·3
    schedule = NoiseSchedule.from_alphas_cumprod([0.9, 0.64, 0.2])
    value = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    start = sample_at(noisy=2 * value, t=1)
    found = minority_sample(start, 0.5 * value, 3 * value, schedule=schedule)
    assert float(found.clean) == pytest.approx(2.125, abs=1e-15)
    assert float(found.noisy) == pytest.approx(3.5, abs=1e-15)
    assert torch.equal(found.t, start.t) and torch.equal(found.noise, 3 * value)


def sample_at(noisy, t):
    return Noised(clean=noisy, noise=noisy, t=torch.tensor([t]), noisy=noisy)


def test_equal_noise_gives_the_inverted_sample_back():
    prior, clean = two_modes(cosine()), some()
    start = inverted(prior, clean, T)
    same = ask(prior)(start.noisy, T)
    again = minority_sample(start, same, same, schedule=prior.schedule)
    torch.testing.assert_close(again.noisy, start.noisy, rtol=0, atol=1e-14)


def test_the_minority_sample_is_less_likely_where_the_picture_is_likely_and_more_where_it_is_not():
    """The paper's claim is about p(y | x̄), "less well aligned with the original prompt"; this is
    the density, log p(x̄_t | y) - log p(x̂_t | y), on average over fresh noise."""
    prior = exact.mixture_prior(dtype=torch.float64)
    t = torch.full((4000,), 300)
    condition = prior.encode_text([exact.PROMPT] * 4000)
    generator = Generator().manual_seed(0)
    likely = prior.means[0].view(1, 2, 1, 1).expand(4000, -1, -1, -1)
    gaps = []
    for clean in (likely, likely + 3.0):
        start = invert(
            clean,
            t,
            options=InversionOptions(),
            schedule=prior.schedule,
            predict_noise=lambda noisy, level: prior.predict_noise(noisy, level, condition),
            generator=generator,
        )
        prediction = prior.predict_noise(start.noisy, t, condition)
        fresh = standard_normal(clean, generator)
        other = minority_sample(start, prediction, fresh, schedule=prior.schedule)
        before, after = (prior.log_density(x.noisy, t, condition) for x in (start, other))
        gaps.append(float((after - before).mean()))
    assert gaps[0] < -0.5 < 0.5 < gaps[1]
