"""DDIM sampling against the flow that is known exactly for one Gaussian."""

import torch
from torch import Generator

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
    for steps in (25, 100, 500):
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


def test_times_are_evenly_spaced_and_end_at_one():
    schedule = gaussian().schedule
    assert sampling_times(schedule, 4) == [751, 501, 251, 1]
