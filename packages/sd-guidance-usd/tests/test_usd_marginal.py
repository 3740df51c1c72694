"""p̄ within the method: of what is seen, or of the prior's own pictures."""

from dataclasses import replace

import pytest
import torch
from torch import Generator

from sd_core.priors.image_bank import ImageBankPrior
from sd_core.testing import exact
from sd_guidance_usd import usd as usd_module
from sd_guidance_usd.usd import USD
from usd_on_a_bank import CAMERAS, STEP, answer, bank, options, usd


class Contrast:
    """Nearly certain of what it sees."""

    classes = ("bright", "dark")

    def __call__(self, images):
        bright = (100 * (images.flatten(1).mean(dim=1) - 0.5)).sigmoid()
        return torch.stack([bright, 1 - bright], dim=1)


contrast = Contrast()


def test_with_the_priors_own_marginal_the_target_is_the_rectified_prior():
    """The target's ε is that of the bank whose classes have equal shares, by theorem 1."""
    prior = bank()
    method = usd(prior, marginal="prior", limit="none", scale=1)
    latents = exact.some_latents(prior, 4).double()
    guided = answer(method, prior)[0]  # from the first step on
    noised = guided.observed.noised
    uniform = bank((0.4 / 0.7 / 3, 0.3 / 0.7 / 3, 1 / 3, 1 / 3))
    text = uniform.encode_text(["a red bear"] * 4)
    expected = uniform.predict_noise(noised.noisy, noised.t, text)
    weights = prior.schedule.sigma(noised.t, latents) ** 2
    wanted = weights * (expected - noised.noise)
    torch.testing.assert_close(guided.gradient, wanted, atol=1e-6, rtol=1e-5)


def test_the_running_marginal_follows_what_is_seen():
    prior = bank()
    method = usd(prior, memory=2)
    before = method.marginal.shares.clone()
    guided, generator = answer(method, prior)
    latents = exact.some_latents(prior, 4).double()
    assert torch.equal(method.marginal.shares, before)  # `gradient` has no side effect
    method.update_estimator(latents, CAMERAS, guided, step=STEP, generator=generator)
    rate, expected = 1 - 0.1**0.5, before.double()
    for t, seen in zip(guided.t, guided.observed.target["probabilities"], strict=True):
        place = int(t) // 100
        expected[place] = rate * seen + (1 - rate) * expected[place]
    torch.testing.assert_close(method.marginal.shares.double(), expected, rtol=1e-6, atol=1e-6)
    shares = [guided.logs[f"seen_{name}"] for name in ("front", "side", "back")]
    assert sum(shares) == pytest.approx(1)


def test_its_marginal_is_in_its_checkpoint():
    prior = bank()
    method, again = usd(prior), usd(prior)
    guided, generator = answer(method, prior)
    latents = exact.some_latents(prior, 4).double()
    method.update_estimator(latents, CAMERAS, guided, step=STEP, generator=generator)
    again.load_state_dict(method.state_dict())
    assert torch.equal(answer(again, prior)[0].gradient, answer(method, prior)[0].gradient)


def test_the_priors_marginal_is_measured_by_sampling_where_it_is_not_known(monkeypatch):
    """Two pictures, one brighter, three to one: so is p_t(c) at small t.

    They differ by little, or pure noise would be a start that favours neither.
    """
    pictures = torch.stack([torch.full((3, 4, 4), 0.6), torch.full((3, 4, 4), 0.4)])
    prior = ImageBankPrior(pictures, weights=torch.tensor([3.0, 1.0]))
    values = {"marginal": "prior", "prior_samples": 200, "scale": 1, "prior_steps": 20}
    method = usd(prior, classifier={"kind": "test_usd_marginal:contrast"}, **values)
    latents = exact.some_latents(prior, 4)
    generator = Generator().manual_seed(0)
    guided = method.gradient(latents, CAMERAS, step=STEP, generator=generator)
    method.update_estimator(latents, CAMERAS, guided, step=STEP, generator=generator)
    assert method.marginal.measured
    assert float(method.marginal.shares[0, 0]) == pytest.approx(0.75, abs=0.08)
    torch.testing.assert_close(method.marginal.shares.sum(dim=1), torch.ones(10))
    measured = method.marginal.shares.clone()
    method.update_estimator(latents, CAMERAS, guided, step=STEP, generator=generator)
    assert torch.equal(method.marginal.shares, measured)  # once
    # In pure noise x̂0 is the mean of both, which this classifier takes for the brighter one.
    assert float(method.marginal.shares[9, 0]) > 0.9
    again = usd(prior, classifier={"kind": "test_usd_marginal:contrast"}, **values)
    again.load_state_dict(method.state_dict())
    monkeypatch.setattr(usd_module, "sampled_marginal", None)  # nor in a resumed run
    again.update_estimator(latents, CAMERAS, guided, step=STEP, generator=generator)
    assert torch.equal(again.marginal.shares, measured)


@pytest.mark.parametrize(("judged", "scale"), [("text", 1), ("guided", 4)])
def test_the_priors_pictures_are_sampled_as_the_target_is_guided(monkeypatch, judged, scale):
    asked = []

    def sampled(marginal, pictures, judge, *, generator, judged_scale):
        asked.append((pictures, judged_scale))
        return marginal.shares

    monkeypatch.setattr(usd_module, "sampled_marginal", sampled)
    values = {"marginal": "prior", "prior_samples": 5, "prior_steps": 3, "scale": 4}
    values["judged"] = judged
    prior = bank()
    within = exact.guidance_context(prior)
    told = within.prompt.model_copy(update={"negative": "a blue fox"})
    words = {"auxiliary": "from afar", "classifier": {"kind": "test_usd_marginal:contrast"}}
    read = prior.encode_text  # which knows none of these words
    monkeypatch.setattr(
        prior, "encode_text", lambda texts, _=None: read(["a red bear"] * len(texts))
    )
    method = USD(options(**values, **words), replace(within, prompt=told))
    guided, generator = answer(method, prior)
    latents = exact.some_latents(prior, 4).double()
    method.update_estimator(latents, CAMERAS, guided, step=STEP, generator=generator)
    ((found, judged_scale),) = asked
    assert judged_scale == scale
    assert (found.text, found.negative) == ("a red bear, from afar", "a blue fox")
    assert (found.scale, found.count, found.steps) == (4, 5, 3)
