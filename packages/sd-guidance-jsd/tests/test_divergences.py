"""Divergences of finite distributions: by brute force, at the extremes, and as in figure 8."""

from math import inf, log

import pytest
import torch
from torch import Generator

from sd_guidance_jsd.divergences import (
    geometric_jensen_shannon,
    jeffreys,
    jensen_shannon,
    kullback_leibler,
    log_odds_objective,
    optimal_discriminator_objective,
)

SYMMETRIC = (jeffreys, jensen_shannon, geometric_jensen_shannon)
ALL = (kullback_leibler, *SYMMETRIC, log_odds_objective, optimal_discriminator_objective)


def distributions(*rows):
    return (torch.tensor(row, dtype=torch.float64) for row in rows)


def random_pairs(count=200, outcomes=5):
    generator = Generator().manual_seed(0)
    draws = torch.rand(2, count, outcomes, generator=generator, dtype=torch.float64).log().neg()
    return draws / draws.sum(-1, keepdim=True)


def figure_8():
    """p = (a, 1 - a), q = (1 - a, a) at 100 values of a between 0 and 1."""
    a = torch.linspace(0, 1, 100, dtype=torch.float64)
    return torch.stack([a, 1 - a], -1), torch.stack([1 - a, a], -1)


def test_all_are_the_sums_that_they_are_defined_by():
    p, q = [0.5, 0.2, 0.3], [0.1, 0.6, 0.3]
    pairs = list(zip(p, q, strict=True))
    geometric = [(x * y) ** 0.5 for x, y in pairs]
    geometric = [g / sum(geometric) for g in geometric]
    expected = {
        kullback_leibler: sum(x * log(x / y) for x, y in pairs),
        jeffreys: sum(x * log(x / y) + y * log(y / x) for x, y in pairs),
        jensen_shannon: sum(x * log(2 * x / (x + y)) + y * log(2 * y / (x + y)) for x, y in pairs)
        / 2,
        geometric_jensen_shannon: sum(
            x * log(x / g) + y * log(y / g) for (x, y), g in zip(pairs, geometric, strict=True)
        )
        / 2,
        log_odds_objective: sum(-y * log(x / (x + y) / (1 - x / (x + y))) for x, y in pairs),
        optimal_discriminator_objective: sum(-y * log(2 * x / (x + y)) for x, y in pairs),
    }
    for divergence, value in expected.items():
        assert float(divergence(*distributions(p, q))) == pytest.approx(value, abs=1e-14)
    assert set(expected) == set(ALL)


@pytest.mark.parametrize("divergence", ALL)
def test_equal_distributions_are_no_distance_apart(divergence):
    p, _ = random_pairs()
    torch.testing.assert_close(divergence(p, p), torch.zeros(len(p)).double(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("divergence", SYMMETRIC)
def test_symmetric_divergences_are_symmetric(divergence):
    p, q = random_pairs()
    torch.testing.assert_close(divergence(p, q), divergence(q, p), rtol=1e-12, atol=1e-14)


def test_as_printed_the_sum_of_equation_4_would_be_negative_at_times():
    p, q = random_pairs()
    printed = (p * (p / q).log() + q * (p / q).log()).sum(-1)
    assert printed.min() < -0.1
    torch.testing.assert_close(printed, kullback_leibler(p, q) - kullback_leibler(q, p))


def test_without_overlap_jsd_is_log_two_and_the_others_are_infinite():
    p, q = distributions([1.0, 0.0], [0.0, 1.0])
    assert float(jensen_shannon(p, q)) == pytest.approx(log(2), abs=1e-15)
    for divergence in set(ALL) - {jensen_shannon}:
        assert float(divergence(p, q)) == inf


def test_along_figure_8_the_geometric_one_goes_to_log_two_where_its_convention_is_infinity():
    p, q = distributions([1 - 1e-12, 1e-12], [1e-12, 1 - 1e-12])
    assert float(geometric_jensen_shannon(p, q)) == pytest.approx(log(2), abs=1e-9)


def test_an_outcome_that_only_one_has_counts_on_one_side():
    p, q = distributions([1.0, 0.0], [0.5, 0.5])
    assert float(kullback_leibler(p, q)) == pytest.approx(log(2), abs=1e-15)
    assert float(kullback_leibler(q, p)) == float(log_odds_objective(p, q)) == inf
    assert float(log_odds_objective(q, p)) == pytest.approx(log(2), abs=1e-15)


def test_an_outcome_that_none_has_counts_for_nothing():
    p, q = distributions([0.3, 0.7, 0.0], [0.6, 0.4, 0.0])
    for divergence in ALL:
        whole, part = divergence(p, q), divergence(p[:2], q[:2])
        torch.testing.assert_close(whole, part, rtol=1e-14, atol=0)


@pytest.mark.parametrize("pairs", [random_pairs(), figure_8()], ids=["random", "figure 8"])
def test_jsd_lies_below_kl_jeffreys_and_the_geometric_one_and_below_log_two(pairs):
    p, q = pairs
    jsd = jensen_shannon(p, q)
    assert (jsd <= log(2) + 1e-15).all() and (jsd >= -1e-15).all()
    for other in (kullback_leibler, jeffreys, geometric_jensen_shannon):
        assert (jsd <= other(p, q) + 1e-14).all()


# What the paper's approximation is


@pytest.mark.parametrize("pairs", [random_pairs(), figure_8()], ids=["random", "figure 8"])
def test_with_odds_of_prior_against_renders_the_papers_objective_is_the_reverse_kl(pairs):
    """So it is what SDS minimises, and no lower bound of the others, as figure 8 would have it."""
    p, q = pairs
    found = log_odds_objective(p, q)
    torch.testing.assert_close(found, kullback_leibler(q, p), rtol=1e-9, atol=1e-12)
    assert (found >= jensen_shannon(p, q) - 1e-12).all()
    apart = (p - q).abs().amax(-1) > 0.1
    assert (found > jensen_shannon(p, q))[apart].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_finite_where_q_is_next_to_nothing(dtype):
    small = 1e-9 if dtype == torch.float32 else 1e-30
    p, q = torch.tensor([[0.5, 0.5], [small, 1 - small]], dtype=dtype)
    expected = q[1] * (q[1] / p[1]).log()
    torch.testing.assert_close(log_odds_objective(p, q), expected)


def test_with_the_optimal_discriminator_it_lies_between_in_figure_8_but_is_unbounded():
    p, q = (rows[1:-1] for rows in figure_8())
    found = optimal_discriminator_objective(p, q)
    middle = (p + q) / 2
    expected = kullback_leibler(q, p) - kullback_leibler(q, middle)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert (found <= kullback_leibler(q, p) + 1e-14).all()
    assert (found >= jensen_shannon(p, q) - 1e-14).all()
    assert float(optimal_discriminator_objective(*(rows[0] for rows in figure_8()))) == inf
