"""Both gradients against numbers by hand and against autograd of the losses that are printed."""

import pytest
import torch
from torch import Generator

from sd_core.condition import Texts
from sd_core.testing import exact
from sd_core.weighting import weight
from sd_guidance_jsd.gradients import (
    attraction_target,
    attraction_weights,
    jsd_gradient,
    jsd_released_gradient,
)


def one(value):
    return torch.tensor([[[[value]]]], dtype=torch.float64)


def some(*shape, seed=0):
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def test_the_papers_gradient_is_a_weighted_difference():
    # w·(α/σ)·(ε̂(x̂) - ε̂(x̄)) = 0.36·(0.8/0.6)·(5 - 2)
    found = jsd_gradient(one(5.0), one(2.0), one(0.36), alpha=one(0.8), sigma=one(0.6))
    assert float(found) == pytest.approx(1.44, abs=1e-15)


def test_sigma_squared_makes_the_papers_prefactor_alpha_times_sigma():
    alpha, sigma = one(0.8), one(0.6)
    found = jsd_gradient(one(1.0), one(0.0), sigma**2, alpha=alpha, sigma=sigma)
    assert float(found) == pytest.approx(0.48, abs=1e-15)


def test_the_released_gradient_is_a_sum_of_two_pulls():
    # Two elements, so N = 2: [(3 - 1) + 0.3·(3 - 4)]/2 and [(0 - 1) + 0.3·(0 - 2)]/2
    clean, high, low = (
        torch.tensor(pair, dtype=torch.float64).view(1, 2, 1, 1)
        for pair in ([3.0, 0.0], [1.0, 1.0], [4.0, 2.0])
    )
    found = jsd_released_gradient(clean, high, low, low_density_weight=0.3)
    expected = torch.tensor([0.85, -0.8], dtype=torch.float64).view(1, 2, 1, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


def released_loss_gradient(clean, high, low, weight):
    """Of the code's loss: mean((z - HD)²)/2/B + k·mean((z - LD)²)/2/B, by autograd."""
    z, batch = clean.clone().requires_grad_(), len(clean)
    loss = (z - high).square().mean() / 2 / batch + weight * (z - low).square().mean() / 2 / batch
    return torch.autograd.grad(loss, z)[0]


@pytest.mark.parametrize("low_density_weight", [0.0, 0.3, 1.0])
def test_the_released_gradient_is_that_of_the_released_loss_at_a_batch_of_one(low_density_weight):
    clean, high, low = (some(1, 4, 3, 2, seed=seed) for seed in range(3))
    found = jsd_released_gradient(clean, high, low, low_density_weight=low_density_weight)
    expected = released_loss_gradient(clean, high, low, low_density_weight)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_for_a_larger_batch_the_code_divides_by_it_once_more():
    clean, high, low = (some(3, 4, 3, 2, seed=seed) for seed in range(3))
    as_the_loop_does = jsd_released_gradient(clean, high, low, low_density_weight=1.0) / 3
    expected = 3 * released_loss_gradient(clean, high, low, 1.0)
    torch.testing.assert_close(as_the_loop_does, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("low_density_weight", [0.0, 0.3, 1.0, 5.0])
def test_the_attraction_is_a_residual_at_the_inverted_sample(low_density_weight):
    clean, noise, high, low = (some(2, 4, 3, 2, seed=seed) for seed in range(4))
    alpha, sigma = one(0.28), one(0.96)
    noisy = alpha * clean + sigma * noise
    levels = {"low_density_weight": low_density_weight, "alpha": alpha, "sigma": sigma}
    target = attraction_target(noisy, high, low, **levels)
    found = attraction_weights(torch.ones_like(alpha), **levels) * (target - noise)
    expected = 24 * jsd_released_gradient(clean, high, low, low_density_weight=low_density_weight)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


# Eq. 23 on an exact prior, whose densities autograd can differentiate.
BATCH = 4


def by_autograd(scale):
    """(∇ of eq. 23's first line times s, ∇ of what guidance adds to it, eq. 12 times σ²/w)."""
    prior = exact.mixture_prior(channels=2, height=2, width=1, dtype=torch.float64)
    t = torch.tensor([40, 300, 600, 900])
    text, nothing = (prior.encode_text([words] * BATCH) for words in (exact.PROMPT, ""))
    z = some(BATCH, 2, 2, 1, seed=5).requires_grad_()
    alpha, sigma = prior.schedule.alpha(t, z), prior.schedule.sigma(t, z)
    at_first, at_second = (
        alpha * z + sigma * some(BATCH, 2, 2, 1, seed=seed) for seed in (6, 7)
    )  # x̂_t and x̄_t: the same z, constant noises

    def log_p(noisy, condition):
        return prior.log_density(noisy, t, condition).sum()

    first_line = (log_p(at_first, nothing) - log_p(at_first, text)) + (
        log_p(at_second, text) - log_p(at_second, nothing)
    )
    unconditional = log_p(at_second, nothing) - log_p(at_first, nothing)
    lines = [torch.autograd.grad(of, z, retain_graph=True)[0] for of in (first_line, unconditional)]
    with torch.no_grad():
        inverted, minority = (
            prior.predict_guided(noisy, t, Texts(text, nothing), scale=scale)
            for noisy in (at_first, at_second)
        )
        ones = weight("uniform", prior.schedule, t, z)
        return *lines, jsd_gradient(inverted, minority, ones, alpha=alpha, sigma=sigma)


@pytest.mark.parametrize("scale", [1.0, 13.5])
def test_the_papers_gradient_is_that_of_its_loss_and_of_the_unconditional_density(scale):
    """Eq. 23's second line is s times its first, plus the same difference without a text."""
    first_line, unconditional, found = by_autograd(scale)
    expected = scale * first_line + unconditional
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_two_lines_of_the_papers_derivation_are_not_equal():
    first_line, _, found = by_autograd(1.0)
    assert not torch.allclose(found, first_line, rtol=0.1)
