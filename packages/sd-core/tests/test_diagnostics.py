"""The numbers of `diagnose`, against loops and closed forms."""

from dataclasses import replace
from itertools import permutations, product
from math import inf, isnan

import numpy as np
import pytest
import torch
from torch import Generator

from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.correction import Correction
from sd_core.diagnosis import at_one_time
from sd_core.diagnostics import alignment, correlation, resampled_moments, spread
from sd_core.noising import NoiseSchedule
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.residual import ObservedResidual
from sd_core.step import Step
from sd_core.testing.exact import guidance_context, some_cameras
from sd_core.timesteps import TimestepOptions, timestep_range

MEAN = torch.tensor([2.0, 1.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)


def seeded(seed=0):
    return Generator().manual_seed(seed)


def some_draws(*shape, seed=0, mean=0.7):
    return mean + torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def test_a_spread_is_what_loops_over_pairs_of_draws_say():
    draws = some_draws(6, 3, 5)
    g = draws.numpy()
    found = spread(draws, seeded())
    pairs = list(permutations(range(6), 2))
    # V = Σ‖g_k - g_l‖²/2 and M = Σ g_k·g_l over the pairs, over cameras too.
    variance = np.mean([((g[k] - g[j]) ** 2).sum(1).mean() / 2 for k, j in pairs])
    squared_mean = np.mean([(g[k] * g[j]).sum(1).mean() for k, j in pairs])
    cosines = [
        g[k, c] @ m / np.linalg.norm(g[k, c]) / np.linalg.norm(m)
        for k in range(6)
        for c in range(3)
        for m in [np.delete(g[:, c], k, axis=0).mean(0)]
    ]
    assert found.norm == pytest.approx(np.mean([np.linalg.norm(one) for k in g for one in k]))
    assert found.variance == pytest.approx(variance, rel=1e-12)
    assert found.relative_variance == pytest.approx(variance / squared_mean, rel=1e-12)
    assert found.cosine == pytest.approx(np.mean(cosines), rel=1e-12)


def test_an_equal_gradient_at_every_draw_has_no_variance():
    found = spread(torch.tensor([[[3.0, 4.0]]]).repeat(5, 1, 1), seeded())
    assert (found.norm, found.variance, found.relative_variance) == (5.0, 0.0, 0.0)
    assert found.interval == (0.0, 0.0) and found.cosine == pytest.approx(1.0)


def test_no_gradient_has_no_relative_variance_and_no_cosine():
    found = spread(torch.zeros(4, 1, 3), seeded())
    assert (found.norm, found.variance) == (0.0, 0.0)
    assert all(map(isnan, (found.relative_variance, *found.interval, found.cosine)))


def test_a_mean_that_cannot_be_told_from_zero_leaves_an_infinite_ratio():
    found = spread(torch.tensor([[[1.0]], [[-1.0]]]), seeded())
    assert found.relative_variance == inf and found.interval[1] == inf
    assert found.variance == 2.0 and found.cosine == -1.0


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    draws = some_draws(200, 24, 1, 8, mean=0.4)
    truth = 1 / 0.4**2  # V = 8·1 and ‖E g‖² = 8·0.4²
    intervals = [spread(each, seeded(seed)).interval for seed, each in enumerate(draws)]
    held = sum(low <= truth <= high for low, high in intervals) / len(intervals)
    assert 0.86 < held < 0.99


def test_all_samples_with_replacement_have_the_moments_of_the_draws_on_average():
    g = some_draws(4, 2, 3)
    off, found = g - g.mean(0), spread(g, seeded())
    gram, scatter = (torch.einsum("kcd,lcd->kl", each, each) / 2 for each in (g, off))
    samples = [[float(sample.count(k)) for k in range(4)] for sample in product(range(4), repeat=4)]
    counts = torch.tensor(samples, dtype=torch.float64)
    variance, squared_mean = resampled_moments(scatter, gram, counts)
    assert float(variance.mean()) == pytest.approx(found.variance, rel=1e-12)
    expected = found.variance / found.relative_variance
    assert float(squared_mean.mean()) == pytest.approx(expected, rel=1e-12)


def test_the_correlation_is_that_of_all_values_around_their_own_means():
    a, b = some_draws(9, 2, 4, seed=1), some_draws(9, 2, 4, seed=2)
    b = 0.5 * a - b + torch.arange(8.0).view(2, 4)
    centred = [(each - each.mean(0)).flatten().numpy() for each in (a, b)]
    assert correlation(a, b) == pytest.approx(np.corrcoef(*centred)[0, 1], abs=1e-12)
    assert correlation(a, 3 * a + 1) == pytest.approx(1.0)
    assert correlation(a, -a) == pytest.approx(-1.0)


def test_a_term_that_is_the_same_at_every_draw_correlates_with_nothing():
    a = some_draws(9, 2, 4)
    assert isnan(correlation(a, a[:1].expand(9, 2, 4)))
    assert isnan(correlation(a[:1].expand(9, 2, 4) * (1 + 1e-8 * a), a))


def test_the_alignment_is_the_mean_cosine_of_the_terms():
    a, b = some_draws(5, 2, 3, seed=1), some_draws(5, 2, 3, seed=2)
    expected = torch.nn.functional.cosine_similarity(a, b, dim=2).mean()
    assert alignment(a, b) == pytest.approx(float(expected))


def draws_of(method, options, t, count=10_000):
    """Gradients and terms at one point of the plane, under the Gaussian N(MEAN, COVARIANCE)."""
    prior = GaussianMixturePrior(MEAN.view(1, 2, 1, 1), COVARIANCE[None])
    table = at_one_time(options.model_dump(), t, len(prior.schedule))
    guidance = method(type(options)(**table), guidance_context(prior))
    point = torch.tensor([0.5, -1.0], dtype=torch.float64).view(1, 2, 1, 1)
    guided = guidance.gradient(
        point.expand(count, -1, -1, -1),
        some_cameras(1).repeat(count),
        step=Step(0, 10),
        generator=seeded(),
    )
    assert set(guided.t.tolist()) == {t}
    assert isinstance(guided.observed, ObservedResidual)
    terms = [term.view(count, 1, 2) for term in guided.observed.terms]
    return guided.gradient.view(count, 1, 2), terms


@pytest.mark.parametrize("t", [100, 500, 900])
def test_sds_on_a_gaussian_scatters_as_the_closed_form_says(t):
    """g = w·(σ·α·C⁻¹·(x - μ) - α²·Σ·C⁻¹·ε), C = α²·Σ + σ²·I."""
    gradients, terms = draws_of(SDS, SDSOptions(scale=1.0, weight="uniform"), t)
    schedule = NoiseSchedule.scaled_linear()
    alpha, sigma = schedule.alphas[t], schedule.sigmas[t]
    inverse = torch.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * torch.eye(2))
    mean = sigma * alpha * inverse @ (torch.tensor([0.5, -1.0]) - MEAN)
    variance = float((alpha**2 * COVARIANCE @ inverse).square().sum())
    part = sigma**2 * inverse  # of ε in the target; ε itself is the source
    expected = float(part.trace() / (part.square().sum() * 2).sqrt())
    few = spread(gradients[:200], seeded())
    assert few.interval[0] < variance / float(mean @ mean) < few.interval[1]
    scatter = gradients - gradients.mean(0)
    # From 10 000 draws, the variance is known to 2 %.
    assert float(scatter.square().sum() / len(scatter)) == pytest.approx(variance, rel=0.06)
    assert few.variance == pytest.approx(variance, rel=0.3)
    assert correlation(*terms) == pytest.approx(expected, abs=0.02)


def test_vsd_with_the_exact_estimator_of_a_point_is_sds():
    own = VSDOptions(scale=1.0), SDSOptions(scale=1.0)
    (vsd, terms), (sds, others) = draws_of(VSD, own[0], 250, 8), draws_of(SDS, own[1], 250, 8)
    assert torch.equal(vsd, sds)
    assert correlation(*terms) == correlation(*others)


@pytest.mark.parametrize("length", [1, 7, 1000])
def test_a_range_of_times_can_hold_one_index_alone(length):
    schedule = NoiseSchedule.linear(length)
    for t in {*range(0, length, 13), length - 1}:
        table = at_one_time({"timesteps": {"schedule": "dreamtime"}}, t, length)
        options = TimestepOptions(**table["timesteps"])
        assert timestep_range(options, Step(0, 1), schedule) == (t, t)
        assert timestep_range(options, Step(9, 10), schedule) == (t, t)


def test_the_time_is_set_in_the_parts_of_a_mix_and_nothing_else_is():
    mix = {"noising": "sds", "options": {"sds": {"scale": 2.0, "timesteps": {"low": 0.1}}}}
    changed = at_one_time(mix, 3, 10)
    only = changed["options"]["sds"].pop("timesteps")
    assert only["low"] < 0.3 < only["high"]
    assert changed == {"noising": "sds", "options": {"sds": {"scale": 2.0}}}
    assert mix["options"]["sds"]["timesteps"] == {"low": 0.1}


def test_the_terms_are_what_the_gradient_is_the_difference_of_corrections_too():
    class Corrected(SDS):
        def target(self, noised, cameras, *, step, generator):
            plain = super().target(noised, cameras, step=step, generator=generator)
            return replace(plain, correction=Correction(torch.full_like(plain.noise, 0.5)))

    options = SDSOptions(scale=1.0, weight="uniform")
    plain, (target, source) = draws_of(SDS, options, 500, 4)
    assert torch.equal(plain, target - source)
    gradients, (corrected, same) = draws_of(Corrected, options, 500, 4)
    assert torch.equal(gradients, corrected - same)
    torch.testing.assert_close(corrected - target, torch.full_like(target, 0.5))
