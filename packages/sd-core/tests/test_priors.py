"""The exact priors against autograd, brute force and sampling."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator
from torch.distributions import MultivariateNormal

from sd_core.errors import ConfigError
from sd_core.noising import NoiseSchedule
from sd_core.prior import PriorContext
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.priors.image_bank import ImageBankOptions, ImageBankPrior, build
from sd_core.testing import exact

CPU = PriorContext(torch.device("cpu"))


@pytest.fixture
def prior() -> GaussianMixturePrior:
    return exact.mixture_prior(channels=3, height=2, width=1, dtype=torch.float64)


@pytest.fixture
def bank() -> ImageBankPrior:
    generator = Generator().manual_seed(5)
    images = torch.rand(7, 3, 4, 4, generator=generator, dtype=torch.float64)
    weights = torch.rand(7, generator=generator, dtype=torch.float64)
    return ImageBankPrior(images, [["cat"]] * 3 + [["dog", "cat"]] * 4, weights=weights)


def noisy_latents(prior, count, seed=0):
    generator = Generator().manual_seed(seed)
    noisy = torch.randn(count, *prior.latent_shape, generator=generator, dtype=torch.float64)
    return noisy, torch.linspace(0, 999, count).long()


def test_log_density_equals_an_independent_gaussian_library(prior):
    noisy, t = noisy_latents(prior, 6)
    alpha = prior.schedule.alpha(t, noisy).flatten()
    sigma = prior.schedule.sigma(t, noisy).flatten()
    covariances = prior._axes @ torch.diag_embed(prior._eigenvalues) @ prior._axes.mT
    for i in range(6):
        components = [
            weight.log()
            + MultivariateNormal(
                alpha[i] * prior.means[k],
                alpha[i] ** 2 * covariances[k] + sigma[i] ** 2 * torch.eye(6, dtype=torch.float64),
            ).log_prob(noisy[i].flatten())
            for k, weight in enumerate([torch.tensor(0.7), torch.tensor(0.3)])
        ]
        expected = torch.stack(components).logsumexp(0)
        got = prior.log_density(noisy, t, prior.encode_text([""] * 6))[i]
        assert got == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("text", ["", "a red bear", "a blue fox"])
def test_noise_is_minus_sigma_times_the_gradient_of_the_log_density(prior, text):
    noisy, t = noisy_latents(prior, 5)
    condition = prior.encode_text([text] * 5)
    noisy.requires_grad_(True)
    (score,) = torch.autograd.grad(prior.log_density(noisy, t, condition).sum(), noisy)
    noise = prior.predict_noise(noisy, t, condition)
    expected = -prior.schedule.sigma(t, noisy) * score
    torch.testing.assert_close(noise.detach(), expected, rtol=1e-10, atol=1e-10)


def test_mixture_noise_passes_gradcheck(prior):
    noisy, t = noisy_latents(prior, 2)
    condition = prior.encode_text([""] * 2)
    assert torch.autograd.gradcheck(
        lambda x: prior.predict_noise(x, t, condition), noisy.requires_grad_(True)
    )


def test_a_singular_covariance_has_a_finite_exact_noise():
    """A point mass: ε = (x_t - α·μ)/σ."""
    point = GaussianMixturePrior(torch.full((1, 2, 1, 1), 0.5), torch.zeros(1, 2, 2))
    noisy, t = noisy_latents(point, 4)
    noise = point.predict_noise(noisy, t, point.encode_text(["anything"] * 4))
    alpha, sigma = point.schedule.alpha(t, noisy), point.schedule.sigma(t, noisy)
    torch.testing.assert_close(noise, (noisy - alpha * 0.5) / sigma, rtol=1e-6, atol=1e-6)


def test_mixture_samples_have_the_mean_and_covariance_of_their_component(prior):
    samples = prior.sample(40_000, "a blue fox", generator=Generator().manual_seed(0)).flatten(1)
    covariance = (prior._axes @ torch.diag_embed(prior._eigenvalues) @ prior._axes.mT)[1]
    torch.testing.assert_close(samples.mean(0), prior.means[1], rtol=0, atol=0.02)
    torch.testing.assert_close(samples.T.cov(), covariance, rtol=0, atol=0.03)


def test_components_are_drawn_by_their_weights(prior):
    samples = prior.sample(20_000, generator=Generator().manual_seed(0)).flatten(1)
    mean = 0.7 * prior.means[0] + 0.3 * prior.means[1]
    torch.testing.assert_close(samples.mean(0), mean, rtol=0, atol=0.03)


def test_bank_noise_equals_brute_force_over_its_pictures(bank):
    noisy, t = noisy_latents(bank, 6)
    noise = bank.predict_noise(noisy, t, bank.encode_text(["cat"] * 3 + ["dog"] * 3))
    alpha, sigma = bank.schedule.alpha(t, noisy), bank.schedule.sigma(t, noisy)
    weights = bank.log_weights.exp()
    for i in range(6):
        members = range(7) if i < 3 else range(3, 7)
        likelihood = {
            k: weights[k]
            * torch.exp(-(noisy[i] - alpha[i] * bank.bank[k]).square().sum() / (2 * sigma[i] ** 2))
            for k in members
        }
        total = sum(likelihood.values())
        clean = sum(likelihood[k] / total * bank.bank[k] for k in members)
        expected = (noisy[i] - alpha[i] * clean) / sigma[i]
        if total > 0:  # at small t brute force underflows; the library's softmax does not
            torch.testing.assert_close(noise[i], expected, rtol=1e-8, atol=1e-8)
    assert noise.isfinite().all()


def test_a_bank_is_the_limit_of_a_narrow_mixture(bank):
    narrow = GaussianMixturePrior(
        bank.bank, torch.zeros(7, 48, 48, dtype=torch.float64), weights=bank.log_weights.exp()
    )
    noisy, t = noisy_latents(bank, 5)
    torch.testing.assert_close(
        bank.predict_noise(noisy, t, bank.encode_text([""] * 5)),
        narrow.predict_noise(noisy, t, narrow.encode_text([""] * 5)),
        rtol=1e-8,
        atol=1e-8,
    )


def test_bank_samples_are_its_pictures_by_prompt(bank):
    samples = bank.sample(200, "dog", generator=Generator().manual_seed(0))
    matches = (samples.flatten(1).unsqueeze(1) == bank.bank.flatten(1)).all(-1)
    assert matches.any(1).all()
    assert set(matches.nonzero()[:, 1].tolist()) == {3, 4, 5, 6}


def test_pictures_are_diffused_between_minus_one_and_one(bank):
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(bank.encode(images), 2 * images - 1)
    torch.testing.assert_close(bank.decode(bank.encode(images)), images)


def test_contrast_narrows_the_range_and_hides_the_pictures_at_a_lower_t(bank):
    """At half the contrast the posterior is what it was where σ/α is twice as large."""
    pictures = bank.decode(bank.bank)
    faint = ImageBankPrior(pictures, contrast=0.5)
    plain = ImageBankPrior(pictures)
    torch.testing.assert_close(faint.encode(pictures), pictures - 0.5)
    torch.testing.assert_close(faint.decode(faint.encode(pictures)), pictures)
    noise = torch.randn(1, 3, 4, 4, generator=Generator().manual_seed(1), dtype=torch.float64)
    guesses = {}
    for name, prior, wanted in (("faint", faint, 1.0), ("plain", plain, 2.0)):
        times = torch.arange(1000)
        ratio = prior.schedule.sigma(times, noise) / prior.schedule.alpha(times, noise)
        t = (ratio.flatten() - wanted).abs().argmin()[None]
        alpha, sigma = prior.schedule.alpha(t, noise), prior.schedule.sigma(t, noise)
        noisy = alpha * prior.bank[:1] + sigma * noise
        found = prior.predict_noise(noisy, t, prior.encode_text([""]))
        guesses[name] = prior.decode((noisy - sigma * found) / alpha)
    torch.testing.assert_close(guesses["faint"], guesses["plain"], rtol=0, atol=2e-3)


@pytest.mark.parametrize("text", ["dog, side view", "overhead view of dog"])
def test_view_words_that_no_picture_lists_are_dropped(bank, text):
    plain = bank.encode_text(["dog"]).tensors["log_weights"]
    assert torch.equal(bank.encode_text([text]).tensors["log_weights"], plain)


def test_other_words_are_not_dropped(bank):
    with pytest.raises(ConfigError, match="knows no prompt 'dog, running'"):
        bank.encode_text(["dog, running"])


def test_the_identity_of_a_bank_changes_with_its_pictures(bank):
    other = ImageBankPrior(bank.decode(bank.bank).flip(0))
    assert bank.identity()["pictures"] == "7"
    assert bank.identity() == ImageBankPrior(bank.decode(bank.bank)).identity()
    assert bank.identity()["sha256"] != other.identity()["sha256"]


def test_a_bank_is_found_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ImageBankOptions(folder="pictures").folder == str(tmp_path / "pictures")


def test_an_unknown_prompt_is_refused_with_the_known_ones(bank):
    with pytest.raises(ConfigError) as caught:
        bank.encode_text(["a dug"])
    assert str(caught.value) == (
        "this prior knows no prompt 'a dug'. It knows: 'cat', 'dog', and the empty prompt. "
        "Did you mean 'dog'?"
    )


def test_any_prompt_selects_everything_where_no_member_lists_one():
    prior = GaussianMixturePrior(torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1))
    assert torch.equal(
        prior.encode_text(["whatever"]).tensors["log_weights"], prior.log_weights.unsqueeze(0)
    )


@pytest.mark.parametrize(
    "covariance", [[[1.0, 0.5], [0.2, 1.0]], [[1.0, 2.0], [2.0, 1.0]]], ids=["skew", "indefinite"]
)
def test_what_is_no_covariance_is_refused(covariance):
    with pytest.raises(
        ConfigError,
        match=r"a covariance of the mixture has the eigenvalue .* Give symmetric matrices",
    ):
        GaussianMixturePrior(torch.zeros(1, 2, 1, 1), torch.tensor([covariance]))


def test_a_bank_is_read_from_a_folder(tmp_path):
    picture = np.zeros((4, 6, 3), np.uint8)
    for name, level in (("a.png", 0), ("b.png", 255)):
        Image.fromarray(picture + np.uint8(level)).save(tmp_path / name)
    captions = {"a.png": "night", "b.png": ["day", "noon"]}
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    prior = build(ImageBankOptions(folder=str(tmp_path)), CPU)
    assert prior.latent_shape == (3, 4, 6)
    night = prior.sample(3, "night", generator=Generator().manual_seed(0))
    assert torch.equal(night, -torch.ones(3, 3, 4, 6))
    day = prior.sample(3, "noon", generator=Generator().manual_seed(0))
    assert torch.equal(day, torch.ones(3, 3, 4, 6))


def test_a_folder_without_captions_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"has no captions\.json\. Add one"):
        build(ImageBankOptions(folder=str(tmp_path)), CPU)


def test_pictures_of_different_sizes_are_refused(tmp_path):
    for name, size in (("a.png", 4), ("b.png", 5)):
        Image.new("RGB", (size, 4)).save(tmp_path / name)
    (tmp_path / "captions.json").write_text('{"a.png": ["x"], "b.png": ["x"]}')
    with pytest.raises(ConfigError, match="have 2 different sizes"):
        build(ImageBankOptions(folder=str(tmp_path)), CPU)


def test_a_missing_picture_is_named(tmp_path):
    (tmp_path / "captions.json").write_text('{"gone.png": ["x"]}')
    with pytest.raises(ConfigError, match=r"cannot read the picture .*gone\.png"):
        build(ImageBankOptions(folder=str(tmp_path)), CPU)


def test_the_schedule_of_a_prior_can_be_chosen():
    schedule = NoiseSchedule.linear(100)
    prior = GaussianMixturePrior(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1), schedule=schedule)
    assert len(prior.schedule) == 100
