"""r, its marginal, and theorem 1 on a mixture whose every score is known."""

from math import log

import pytest
import torch
from torch import Generator

from sd_core.errors import ConfigError
from sd_core.prior import AbstractPrior
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_guidance_usd.exact_classifier import ExactClassifier
from sd_guidance_usd.marginal import Marginal, memory_rate
from sd_guidance_usd.rectifier import log_control, log_rectifier, wanted_shares, with_shares

PHRASES = {"front": "front view", "side": "side view", "back": "back view"}
WEIGHTS = torch.tensor([0.5, 0.2, 0.2, 0.1], dtype=torch.float64)
OF_CLASS = ("front", "front", "side", "back")  # of each member
SHARES = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)


def biased_mixture(weights=WEIGHTS):
    """Four Gaussians of the plane; two of them are fronts."""
    generator = Generator().manual_seed(3)
    factors = torch.randn(4, 2, 2, generator=generator, dtype=torch.float64)
    means = torch.tensor([[2.0, 0], [1, 1], [-1, 2], [0, -2]], dtype=torch.float64)
    return GaussianMixturePrior(
        means.view(4, 2, 1, 1),
        0.1 * factors @ factors.mT + 0.05 * torch.eye(2, dtype=torch.float64),
        weights=weights,
        prompts=[["a bear", f"a bear, {each} view"] for each in OF_CLASS],
    )


def rectified_mixture(wanted):
    """Σ_c f(c)·p(x|c): the same members, each class with the share that is wanted."""
    place = torch.tensor([list(PHRASES).index(each) for each in OF_CLASS])
    return biased_mixture(WEIGHTS * (wanted / SHARES)[place])


@pytest.mark.parametrize("t", [20, 300, 900])
@pytest.mark.parametrize("wanted", [(1 / 3, 1 / 3, 1 / 3), (0.2, 0.8, 0.0)])
def test_the_score_of_the_rectified_density_is_the_score_plus_the_slope_of_log_r(t, wanted):
    wanted = torch.tensor(wanted, dtype=torch.float64)
    prior, times = biased_mixture(), torch.full((16,), t)
    classifier = ExactClassifier(prior, "a bear", PHRASES)
    text = prior.encode_text(["a bear"] * 16)
    noisy = torch.randn(16, 2, 1, 1, generator=Generator().manual_seed(0), dtype=torch.float64)
    noisy.requires_grad_()
    log_r = log_rectifier(classifier.log_of_noisy(noisy, times, text), SHARES.expand(16, 3), wanted)
    (slope,) = torch.autograd.grad(log_r.sum(), noisy)
    with torch.no_grad():
        sigma = prior.schedule.sigma(times, noisy)
        biased, rectified = (
            -world.predict_noise(noisy, times, world.encode_text(["a bear"] * 16)) / sigma
            for world in (prior, rectified_mixture(wanted))
        )
    torch.testing.assert_close(rectified, biased + slope, rtol=1e-5, atol=1e-5)
    density = [
        world.log_density(noisy, times, world.encode_text(["a bear"] * 16))
        for world in (prior, rectified_mixture(wanted))
    ]
    torch.testing.assert_close(density[1] - density[0], log_r, rtol=1e-8, atol=1e-8)


def langevin_counts(*, rectified):
    """How many of 600 annealed Langevin particles end in each class."""
    prior, count = biased_mixture(), 600
    classifier = ExactClassifier(prior, "a bear", PHRASES)
    text = prior.encode_text(["a bear"] * count)
    generator = Generator().manual_seed(1)
    wanted = torch.full((3,), 1 / 3, dtype=torch.float64)

    def score(noisy, t):
        told = -prior.predict_noise(noisy, t, text) / prior.schedule.sigma(t, noisy)
        if not rectified:
            return told
        noisy = noisy.detach().requires_grad_()
        seen = classifier.log_of_noisy(noisy, t, text)
        log_r = log_rectifier(seen, SHARES.expand(count, 3), wanted)
        return told + torch.autograd.grad(log_r.sum(), noisy)[0]

    x = torch.randn(count, 2, 1, 1, generator=generator, dtype=torch.float64)
    for level in range(980, 0, -20):
        t = torch.full((count,), level)
        size = 0.05 * float(prior.schedule.sigmas[level]) ** 2
        for _ in range(4):
            kick = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            x = x + size * score(x, t) + (2 * size) ** 0.5 * kick
    seen = classifier.log_of_noisy(x, torch.full((count,), 20), text).argmax(dim=1)
    return torch.bincount(seen, minlength=3).double()


def chi_squared(found, shares):
    expected = shares * found.sum()
    return float(((found - expected) ** 2 / expected).sum())


def test_langevin_particles_of_the_rectified_score_show_every_class_alike():
    """Theorem 2; 9.21 is the 1 % quantile of χ² with two degrees of freedom."""
    uniform = torch.full((3,), 1 / 3)
    assert chi_squared(langevin_counts(rectified=True), uniform) < 9.21
    assert chi_squared(langevin_counts(rectified=False), uniform) > 100


def test_r_is_one_where_the_marginal_is_as_wanted():
    seen = torch.tensor([[0.1, 0.2, 0.7], [1.0, 0.0, 0.0]])
    f = torch.tensor([0.5, 0.3, 0.2])
    assert torch.allclose(log_rectifier(seen.log(), f.expand(2, 3), f), torch.zeros(2), atol=1e-6)


def test_a_class_that_is_seen_rarely_counts_for_more():
    seen = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = log_rectifier(seen.log(), torch.tensor([[0.9, 0.1]] * 2), torch.tensor([0.5, 0.5]))
    assert found.tolist() == pytest.approx([log(0.5 / 0.9), log(0.5 / 0.1)])
    found = log_rectifier(seen.log(), torch.tensor([[0.9999, 1e-4]] * 2), torch.tensor([0.5, 0.5]))
    assert found.tolist() == pytest.approx([log(0.5 / 0.9999), log(0.5 / 1e-4)])


def test_control_is_the_probability_of_the_classes_asked_for():
    seen = torch.tensor([[0.1, 0.2, 0.7]])
    only = wanted_shares(("front", "side", "back"), {}, ("front", "side"))
    assert float(log_control(seen.log(), only)) == pytest.approx(log(0.1 + 0.2))


@pytest.mark.parametrize(
    "log_r", [lambda seen, f: log_rectifier(seen, torch.full_like(seen, 0.5), f), log_control]
)
def test_a_class_that_is_certainly_not_seen_still_pulls(log_r):
    """In float32 its probability is 0, and its logarithm is not."""
    logits = torch.tensor([[300.0, 0.0]], requires_grad=True)
    found = log_r(logits.log_softmax(dim=1), torch.tensor([0.0, 1.0]))
    (slope,) = torch.autograd.grad(found.sum(), logits)
    assert torch.isfinite(found).all()
    assert slope.tolist() == [[-1.0, 1.0]]


def test_wanted_shares_sum_to_one():
    classes = ("front", "side", "back")
    assert wanted_shares(classes, {}, ()).tolist() == pytest.approx([1 / 3] * 3)
    assert wanted_shares(classes, {"side": 3.0, "back": 1.0}, ()).tolist() == [0, 0.75, 0.25]


@pytest.mark.parametrize(
    ("wanted", "only", "told"),
    [
        ({"top": 1.0}, (), "guidance.wanted has 'top' with 1, but the classifier's classes are"),
        ({"side": -1.0}, (), "guidance.wanted has 'side' with -1"),
        ({}, ("top",), "guidance.only has 'top'"),
        ({"side": 0.0}, (), "guidance.wanted is 0 for every class"),
    ],
)
def test_classes_that_are_not_there_are_refused(wanted, only, told):
    with pytest.raises(ConfigError, match=told):
        wanted_shares(("front", "side"), wanted, only)


def test_the_last_hundred_samples_have_nine_tenths_of_the_weight():
    rate = memory_rate(100)
    assert rate == pytest.approx(0.02276, abs=1e-5)
    weights = [rate * (1 - rate) ** age for age in range(100)]
    assert sum(weights) == pytest.approx(0.9)


def test_each_interval_of_t_has_a_marginal_of_its_own():
    marginal = Marginal(bins=10, classes=2, times=1000, rate=0.5)
    seen = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    marginal.learn(torch.tensor([5, 99, 950]), seen)
    assert marginal.at(torch.tensor([0, 99, 100, 900, 999])).tolist() == [
        [0.875, 0.125],  # twice half of the way from 1/2
        [0.875, 0.125],
        [0.5, 0.5],
        [0.25, 0.75],
        [0.25, 0.75],
    ]
    assert [marginal.middle(place) for place in (0, 9)] == [50, 950]


def test_the_exact_classifier_is_bayes_rule_by_hand():
    prior = biased_mixture()
    classifier = ExactClassifier(prior, "a bear", PHRASES)
    t, noisy = torch.tensor([400]), torch.tensor([0.5, 0.8], dtype=torch.float64).view(1, 2, 1, 1)
    alpha, sigma = float(prior.schedule.alphas[400]), float(prior.schedule.sigmas[400])
    joint = {name: 0.0 for name in PHRASES}
    for member, name in enumerate(OF_CLASS):
        covariance = prior._axes[member] @ torch.diag(prior._eigenvalues[member])
        covariance = covariance @ prior._axes[member].T
        normal = torch.distributions.MultivariateNormal(
            alpha * prior.means[member], alpha**2 * covariance + sigma**2 * torch.eye(2).double()
        )
        joint[name] += float(WEIGHTS[member] * normal.log_prob(noisy.flatten()).exp())
    text = prior.encode_text(["a bear"])
    found = classifier.log_of_noisy(noisy, t, text)[0].exp()
    expected = [each / sum(joint.values()) for each in joint.values()]
    assert found.tolist() == pytest.approx(expected)
    assert classifier.shares(text).tolist() == pytest.approx(SHARES.tolist())


def test_members_in_no_class_or_in_two_are_refused():
    with pytest.raises(ConfigError, match="not every member of 'a bear' is in exactly one class"):
        ExactClassifier(biased_mixture(), "a bear", {"front": "front view", "side": "side view"})
    twice = {**PHRASES, "again": "front view"}
    with pytest.raises(ConfigError, match="not every member of 'a bear' is in exactly one class"):
        ExactClassifier(biased_mixture(), "a bear", twice)


def test_only_exact_priors_have_an_exact_classifier():
    class Other(AbstractPrior):
        """A prior of which nothing is known."""

    Other.__abstractmethods__ = frozenset()
    with pytest.raises(ConfigError, match="the exact classifier is for priors that are known"):
        ExactClassifier(Other(), "a bear", PHRASES)


def test_counted_shares_are_bayes_rule_and_leave_a_ratio_of_two_sums():
    """p ∝ p̄·q, and log r = log Σ f·q - log Σ p̄·q."""
    generator = Generator().manual_seed(0)
    equal, share, wanted = (
        torch.rand(5, 3, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    equal, share, wanted = (each / each.sum(dim=1, keepdim=True) for each in (equal, share, wanted))
    counted = with_shares(equal.log(), share)
    product = equal * share
    torch.testing.assert_close(counted.exp(), product / product.sum(dim=1, keepdim=True))
    expected = (equal @ wanted[0]).log() - product.sum(dim=1).log()
    torch.testing.assert_close(log_rectifier(counted, share, wanted[0]), expected)
