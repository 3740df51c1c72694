"""Templates noised alike: p(c|x_t) itself, and USD with a judge that leaves shares to it."""

import pytest
import torch
from torch import Generator
from torch.distributions import Independent, Normal

from sd_core.errors import ConfigError
from sd_core.picture_folder import read_picture
from sd_core.pictures import save_png
from sd_core.priors.image_bank import ImageBankPrior
from sd_core.testing import exact
from sd_guidance_usd import usd as usd_module
from sd_guidance_usd.matching import Templates
from sd_guidance_usd.noised_templates import NoisedTemplates
from sd_guidance_usd.prior_marginal import sampled_shares
from sd_guidance_usd.prior_pictures import PriorPictures
from usd_on_a_bank import CAMERAS, STEP, answer, options, usd

NAMES = ("back", "front", "left")  # as files are sorted
TEXTS_OF_TEMPLATES = [["a red bear", f"a red bear, {name} view"] for name in NAMES]
SHARES = torch.tensor([0.1, 0.7, 0.2], dtype=torch.float64)


@pytest.fixture
def folder(tmp_path):
    pictures = torch.rand(3, 3, 4, 4, generator=Generator().manual_seed(0))
    for name, picture in zip(NAMES, pictures, strict=True):
        save_png(tmp_path / f"{name}.png", picture[None])
    return tmp_path


@pytest.fixture
def prior(folder):
    """It has memorised the templates."""
    pictures = torch.stack([read_picture(folder / f"{name}.png").double() for name in NAMES])
    return ImageBankPrior(pictures, TEXTS_OF_TEMPLATES, weights=SHARES)


def noised(prior, folder, **values):
    told = {"kind": "noised", "templates": str(folder)}
    return usd(prior, **{"classifier": told, "limit": "none", **values})


@pytest.mark.parametrize("t", [0, 300, 950])
def test_its_probabilities_are_those_of_gaussians_around_the_noised_templates(prior, t):
    pictures = (prior.bank + 1) / 2
    classifier = NoisedTemplates(Templates(NAMES, pictures), prior)
    generator = Generator().manual_seed(1)
    noisy = torch.randn(5, 3, 4, 4, generator=generator, dtype=torch.float64)
    times = torch.full((5,), t)
    alpha = float(prior.schedule.alpha(times, noisy)[0])
    sigma = float(prior.schedule.sigma(times, noisy)[0])
    density = torch.stack(
        [Independent(Normal(alpha * own, sigma), 3).log_prob(noisy) for own in classifier.latents],
        dim=1,
    )
    found = classifier.log_of_noisy(noisy, times, prior.encode_text(["a red bear"] * 5))
    torch.testing.assert_close(found, density.log_softmax(dim=1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wanted", [{}, {"back": 2.0, "left": 1.0}])
def test_where_the_prior_has_the_templates_alone_it_is_the_exact_classifier(prior, folder, wanted):
    method = noised(prior, folder, wanted=wanted)
    method.marginal.put_all(SHARES.expand(10, 3))
    phrases = {name: f"{name} view" for name in NAMES}
    known = {"kind": "exact", "phrases": phrases}
    told = usd(prior, classifier=known, marginal="prior", limit="none", wanted=wanted)
    one, other = answer(method, prior)[0], answer(told, prior)[0]
    torch.testing.assert_close(one.gradient, other.gradient, rtol=1e-5, atol=1e-6)
    seen = [each.observed.target["probabilities"] for each in (one, other)]
    torch.testing.assert_close(*seen, rtol=1e-5, atol=1e-6)


def test_while_it_only_watches_it_sees_the_same_poses(prior, folder):
    methods = [noised(prior, folder, starts_at=share) for share in (0.0, 1.0)]
    for method in methods:
        method.marginal.put_all(SHARES.expand(10, 3))
    one, other = (answer(method, prior)[0].observed.target for method in methods)
    torch.testing.assert_close(one["probabilities"], other["probabilities"])


def test_with_only_every_class_counts_as_frequent_as_any(prior, folder):
    """r = p(c|x_t) of equally frequent classes, whatever was seen before."""
    method = noised(prior, folder, only=["back"])
    before = answer(method, prior)[0]
    method.marginal.put_all(SHARES.expand(10, 3))
    assert torch.equal(answer(method, prior)[0].gradient, before.gradient)
    even = ImageBankPrior((prior.bank + 1) / 2, TEXTS_OF_TEMPLATES)
    phrases = {name: f"{name} view" for name in NAMES}
    told = usd(even, classifier={"kind": "exact", "phrases": phrases}, only=["back"], limit="none")
    seen = [each.observed.target["probabilities"] for each in (before, answer(told, even)[0])]
    torch.testing.assert_close(*seen, rtol=1e-5, atol=1e-6)


def test_the_priors_shares_are_counted_where_there_is_the_least_noise(prior, folder, monkeypatch):
    """Three pictures, of which two are fronts: (2 + 1)/(3 + 3), (1 + 1)/6, and 1/6 of the rest."""
    method = noised(prior, folder)
    monkeypatch.setattr(PriorPictures, "sample", lambda self, generator: prior.bank[[1, 1, 2]])
    pictures = PriorPictures(prior, "a red bear", "", scale=1.0, count=3, steps=2)
    shares = sampled_shares(pictures, method.judge, generator=Generator().manual_seed(0))
    torch.testing.assert_close(shares.double(), torch.tensor([1.0, 3, 2]).double() / 6)


def test_the_priors_marginal_is_one_for_all_t_and_asked_for_once(prior, folder, monkeypatch):
    method = noised(prior, folder, marginal="prior", prior_samples=30, prior_steps=5, scale=1)
    latents = exact.some_latents(prior, 4).double()
    guided, generator = answer(method, prior)
    assert torch.equal(method.marginal.shares, torch.full((10, 3), 1 / 3))
    method.update_estimator(latents, CAMERAS, guided, step=STEP, generator=generator)
    measured = method.marginal.shares.clone()
    assert method.marginal.measured and torch.equal(measured, measured[:1].expand(10, 3))
    assert measured[0].sum() == pytest.approx(1) and bool((measured >= 1 / 33 - 1e-6).all())
    assert int(measured[0].argmax()) == NAMES.index("front")
    monkeypatch.setattr(usd_module, "sampled_shares", None)
    again = noised(prior, folder, marginal="prior", prior_samples=30, prior_steps=5, scale=1)
    again.load_state_dict(method.state_dict())
    again.update_estimator(latents, CAMERAS, guided, step=STEP, generator=generator)
    assert torch.equal(answer(again, prior)[0].gradient, answer(method, prior)[0].gradient)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"jacobian": "none"}, "guidance.jacobian has no effect on the kind noised"),
        ({"bins": 3, "marginal": "prior"}, "guidance.bins has no effect on the kind noised"),
        ({"judged": "guided"}, "guidance.judged has no effect on the kind noised"),
        ({"classifier": {"model": "m"}}, "guidance.classifier.model has no effect on the kind no"),
        ({"classifier": {"patch_temperature": 0.1}}, "patch_temperature is for the kind matching,"),
    ],
)
def test_what_asks_pictures_or_the_network_has_no_effect(prior, folder, values, told):
    classifier = {"kind": "noised", "templates": str(folder), **values.pop("classifier", {})}
    with pytest.raises(ConfigError, match=told):
        usd(prior, classifier=classifier, **values)


def test_templates_of_another_size_than_the_priors_pictures_are_refused(prior, folder):
    for name in NAMES:
        save_png(folder / f"{name}.png", torch.rand(1, 3, 6, 4))
    with pytest.raises(ConfigError, match=r"templates are \[3, 6, 4\] as the prior .* Set "):
        noised(prior, folder)


def test_it_goes_back_through_nothing():
    told = {"kind": "noised", "templates": "folder"}
    assert options(classifier=told).backward_through() == frozenset()


@pytest.mark.parametrize("second_noise", [False, True])
def test_it_asks_the_prior_for_the_target_alone(prior, folder, monkeypatch, second_noise):
    asked, real = [], ImageBankPrior.predict_noise

    def counted(self, noisy, t, condition):
        asked.append(len(noisy))
        return real(self, noisy, t, condition)

    method = noised(prior, folder, scale=1, second_noise=second_noise)
    latents = exact.some_latents(prior, 4).double()
    monkeypatch.setattr(ImageBankPrior, "predict_noise", counted)
    method.gradient(latents, CAMERAS, step=STEP, generator=Generator().manual_seed(0))
    assert asked == [4]
