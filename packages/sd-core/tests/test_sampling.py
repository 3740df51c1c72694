"""DDIM sampling against the flow that is known exactly for one Gaussian."""

from itertools import pairwise

import pytest
import torch
from torch import Generator

from sd_core.errors import ConfigError
from sd_core.noising import NoiseSchedule
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.sampling import ddim_sample, sampling_times

STD, MEAN = 0.5, 2.0


def gaussian():
    return GaussianMixturePrior(
        torch.full((1, 1, 1, 1), MEAN, dtype=torch.float64),
        torch.full((1, 1, 1), STD**2, dtype=torch.float64),
        prompts=[["a point"]],
    )


def exact_flow(prior, noise, start, end):
    """The PF-ODE moves each point along its quantile: (x - α·μ)/√(α²·s² + σ²) stays."""
    schedule = prior.schedule
    marks = [
        (float(schedule.alphas[t]), (float(schedule.alphas[t]) * STD) ** 2, schedule.sigmas[t])
        for t in (start, end)
    ]
    (a, va, sa), (b, vb, sb) = marks
    quantile = (noise - a * MEAN) / (va + float(sa) ** 2) ** 0.5
    return b * MEAN + quantile * (vb + float(sb) ** 2) ** 0.5


def test_many_steps_follow_the_exact_flow():
    prior = gaussian()
    noise = torch.randn(16, 1, 1, 1, generator=Generator().manual_seed(0), dtype=torch.float64)
    errors = []
    for steps in (25, 100, 600):
        start = sampling_times(prior.schedule, steps)[0]
        found = ddim_sample(prior, noise, ["a point"] * 16, scale=1.0, steps=steps)
        errors.append(float((found - exact_flow(prior, noise, start, 0)).abs().max()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_guidance_of_a_prompt_that_is_everything_changes_nothing():
    prior = gaussian()
    noise = torch.randn(3, 1, 1, 1, generator=Generator().manual_seed(0), dtype=torch.float64)
    plain, guided = (
        ddim_sample(prior, noise, ["a point"] * 3, scale=scale, steps=10) for scale in (1.0, 7.5)
    )
    torch.testing.assert_close(guided, plain)


@pytest.mark.parametrize("steps", [10, 20, 25, 30, 40, 50, 75, 100, 200, 250, 500])
def test_usual_times_are_those_of_stable_diffusion(steps):
    stride = 1000 // steps
    expected = list(range(1 + stride * (steps - 1), 0, -stride))
    assert sampling_times(gaussian().schedule, steps) == expected


@pytest.mark.parametrize("length", [1, 2, 10, 1000])
@pytest.mark.parametrize("make", [NoiseSchedule.scaled_linear, NoiseSchedule.rectified_flow])
def test_any_times_differ_begin_near_noise_and_can_be_left(make, length):
    schedule = make(length)
    usable = int((schedule.alphas > 0).sum())
    for steps in range(1, usable + 1):
        times = sampling_times(schedule, steps)
        assert len(times) == steps
        assert times == sorted(set(times), reverse=True)
        assert 0.9 * usable - 1 <= times[0] < usable and times[-1] >= 0
        gaps = [one - other for one, other in pairwise([*times, 0])]
        assert max(gaps[:-1], default=0) - min(gaps[:-1], default=0) <= 1


def test_times_that_would_begin_far_from_noise_begin_at_the_last():
    schedule = gaussian().schedule
    assert sampling_times(schedule, 1) == [999]
    assert sampling_times(schedule, 4) == [999, 749, 499, 249]
    assert sampling_times(schedule, 600)[:4] == [999, 997, 996, 994]
    assert sampling_times(schedule, 1000) == list(range(999, -1, -1))


def test_a_last_time_without_signal_is_left_out():
    assert sampling_times(NoiseSchedule.rectified_flow(), 2) == [998, 499]
    assert sampling_times(NoiseSchedule.rectified_flow(), 500)[0] == 998


def test_as_many_steps_as_times_follow_the_exact_flow():
    prior, noise = gaussian(), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    found = ddim_sample(prior, noise, ["a point"], scale=1.0, steps=1000)
    torch.testing.assert_close(found, exact_flow(prior, noise, 999, 0), rtol=0.01, atol=0)


@pytest.mark.parametrize("steps", [-1, 0, 1001])
def test_steps_that_the_schedule_does_not_have_are_one_line(steps):
    with pytest.raises(ConfigError) as caught:
        sampling_times(gaussian().schedule, steps)
    assert str(caught.value) == (
        f"sampling in {steps} steps is not possible: the prior's noise schedule has 1000 times to "
        "step from. Choose from 1 to 1000 steps."
    )
