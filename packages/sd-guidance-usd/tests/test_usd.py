"""USD against VSD and against the score of the rectified density, on exact priors."""

from dataclasses import replace

import pytest
import torch

from sd_core.baselines.mix import Mix, MixOptions
from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.guidance import GuidanceContext
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.contracts import GuidanceContract
from sd_guidance_usd.usd import USD, with_auxiliary
from usd_on_a_bank import CAMERAS, STEP, answer, bank, context, options, usd


class TestContract(GuidanceContract):
    def make(self, context: GuidanceContext) -> USD:
        return USD(options(classifier={"kind": "test_usd:brightness"}, auxiliary=""), context)


class Brightness:
    """How bright, how dark: a classifier of one's own."""

    classes = ("bright", "dark")

    def __call__(self, images):
        bright = (3 * images.flatten(1).mean(dim=1)).sigmoid()
        return torch.stack([bright, 1 - bright], dim=1)


brightness = Brightness()


class Undecided:
    """r = 1 everywhere, with the graph of a classifier."""

    classes = ("one", "other")

    def __call__(self, images):
        half = 0.5 + 0 * images.flatten(1).mean(dim=1)
        return torch.stack([half, half], dim=1)


undecided = Undecided()


@pytest.mark.parametrize("limit", ["none", "at-most", "equal"])
@pytest.mark.parametrize("jacobian", ["full", "vae", "none"])
def test_where_r_has_no_slope_it_is_vsd_to_the_bit(limit, jacobian):
    prior, classifier = bank(), {"kind": "test_usd:undecided"}
    one = usd(prior, classifier=classifier, limit=limit, jacobian=jacobian)
    vsd = VSD(VSDOptions(timesteps=one.config.timesteps), context(prior))
    assert torch.equal(answer(one, prior)[0].gradient, answer(vsd, prior)[0].gradient)


@pytest.mark.parametrize("limit", ["none", "at-most", "equal"])
@pytest.mark.parametrize("kind", ["test_usd:brightness", "exact"])
def test_a_fresh_marginal_is_as_wanted_and_rounding_is_not_made_long(limit, kind):
    prior = bank()
    one = usd(prior, classifier={"kind": kind}, limit=limit)
    vsd = VSD(VSDOptions(timesteps=one.config.timesteps), context(prior))
    found, plain = answer(one, prior)[0].gradient, answer(vsd, prior)[0].gradient
    torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-3)


def test_as_the_target_of_a_mix_it_is_itself():
    """With the drawn noise as the source, as its own exact estimator says, too."""
    prior, parts = bank(), {"usd": {"auxiliary": "", "only": ["back"]}, "sds": {}}
    alone = usd(prior, **parts["usd"], timesteps={"schedule": "uniform"})

    def find(name, told):
        within = exact.guidance_context(prior)
        if name == "usd":
            return USD(options(**told), within)
        return SDS(parse_options(SDSOptions, told, where=""), within)

    mixed = parse_options(MixOptions, {"target": "usd", "options": parts}, where="")
    mix = Mix(mixed, replace(exact.guidance_context(prior), find=find))
    torch.testing.assert_close(answer(mix, prior)[0].gradient, answer(alone, prior)[0].gradient)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"only": ["back"], "wanted": {"side": 1.0}}, "both wanted and only are told"),
        ({"only": ["back"], "marginal": "prior"}, "marginal is prior, but with only"),
        ({"memory": 9, "marginal": "prior"}, "memory is for the marginal running, but the marg"),
        ({"prior_samples": 9}, "prior_samples is for the marginal prior, but the marginal is run"),
        ({"prior_steps": 9}, "prior_steps is for the marginal prior, but the marginal is running"),
        ({"classifier": {"kind": "exact", "templates": "folder"}}, "is for the kind matching"),
        (
            {"classifier": {"kind": "exact", "model": "m"}},
            "the kind matching, noised or text",
        ),
        ({"only": ["back"], "memory": 9}, "memory is for p̄, but with only nobody asks"),
        ({"only": ["back"], "bins": 9}, "bins is for p̄, but with only nobody asks"),
        ({"classifier": {"kind": "a:b", "phrases": {"a": "b"}}}, "classifier.phrases names class"),
        ({"classifier": {"kind": "a:b", "size": 28}}, "size is for the kind matching, noised or t"),
    ],
)
def test_options_without_effect_are_refused(values, told):
    with pytest.raises(ConfigError, match=told):
        options(**values)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"classifier": {"templates": "folder"}}, "classifier.templates"),
        ({"classifier": {"model": "a-model"}}, "classifier.model"),
        ({"jacobian": "none"}, "jacobian"),
        ({"auxiliary": "from the side"}, "auxiliary"),
        ({"marginal": "prior", "bins": 3}, "bins"),
        ({"marginal": "prior", "prior_samples": 9}, "prior_samples"),
        ({"marginal": "prior", "prior_steps": 9}, "prior_steps"),
    ],
)
def test_what_has_no_effect_where_the_prior_makes_the_kind_exact_is_refused(values, name):
    with pytest.raises(ConfigError, match=f"guidance.{name} has no effect on the kind exact"):
        usd(bank(), **values)


def test_what_a_preset_says_is_not_told():
    assert usd(bank(), preset="released").config.second_noise
    assert usd(bank(), auxiliary="").prompt.text == exact.PROMPT


def test_released_is_a_preset_of_method_and_classifier():
    released = options(preset="released")
    assert (released.second_noise, released.limit) == (True, "equal")
    assert released.timesteps.schedule == "hard-switch"
    assert released.classifier.normalise == "released"
    assert released.classifier.pose_temperature == 0.01


def test_where_every_class_is_wanted_however_often_it_is_seen_it_is_vsd():
    """r = Σ_c p(c|x_t), which is 1 up to rounding."""
    prior = bank()
    one = usd(prior, only=["front", "side", "back"])
    vsd = VSD(VSDOptions(timesteps=one.config.timesteps), context(prior))
    rectified, plain = answer(one, prior)[0], answer(vsd, prior)[0]
    torch.testing.assert_close(rectified.gradient, plain.gradient, rtol=1e-12, atol=1e-12)


def test_before_its_start_it_is_vsd_to_the_bit_and_already_watches():
    prior = bank()
    late = usd(prior, starts_at=0.8)
    vsd = VSD(VSDOptions(timesteps=late.config.timesteps), context(prior))
    guided, generator = answer(late, prior)
    assert torch.equal(guided.gradient, answer(vsd, prior)[0].gradient)
    latents = exact.some_latents(prior, 4).double()
    late.update_estimator(latents, CAMERAS, guided, step=STEP, generator=generator)
    assert not torch.equal(late.marginal.shares, torch.full((10, 3), 1 / 3))
    begun = Step(8, 10)
    plain = answer(vsd, prior, begun)[0].gradient
    assert not torch.equal(answer(late, prior, begun)[0].gradient, plain)


@pytest.mark.parametrize(("limit", "ratio"), [("at-most", (0, 1)), ("equal", (1, 1))])
def test_the_rectifiers_part_is_no_longer_than_the_rest(limit, ratio):
    prior = bank()
    values = {"wanted": {"back": 1}, "timesteps": {"schedule": "uniform"}}
    method = usd(prior, limit=limit, **values)
    free = usd(prior, limit="none", **values)
    vsd = VSD(VSDOptions(timesteps=method.config.timesteps), context(prior))
    plain = answer(vsd, prior)[0].gradient
    own, at_will = (answer(each, prior)[0].gradient - plain for each in (method, free))
    lengths = own.flatten(1).norm(dim=1) / plain.flatten(1).norm(dim=1)
    assert bool((lengths >= ratio[0] - 1e-9).all() and (lengths <= ratio[1] + 1e-9).all())
    cosine = torch.nn.functional.cosine_similarity(own.flatten(1), at_will.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(4).double())
    if limit == "at-most":
        shorter = at_will.flatten(1).norm(dim=1) < plain.flatten(1).norm(dim=1)
        torch.testing.assert_close(own[shorter], at_will[shorter])


def test_pose_control_moves_towards_the_class_asked_for():
    prior = bank()
    method = usd(prior, only=["back"], limit="none", timesteps={"schedule": "uniform"})
    guided = answer(method, prior)[0]
    vsd = VSD(VSDOptions(timesteps=method.config.timesteps), context(prior))
    noised, plain = guided.observed.noised, answer(vsd, prior)[0].gradient
    noisy = noised.noisy.clone().requires_grad_()
    text = prior.encode_text(["a red bear"] * 4)
    back = prior.log_joint(noisy, noised.t, text).softmax(dim=1)[:, 3].log()
    (slope,) = torch.autograd.grad(back.sum(), noisy)
    sigma = prior.schedule.sigma(noised.t, noisy)
    torch.testing.assert_close(guided.gradient, plain - sigma**3 * slope)


def test_the_auxiliary_words_take_the_place_of_view_words():
    prompt = exact.guidance_context(bank()).prompt
    assert with_auxiliary(prompt, "").text == "a red bear"
    assert with_auxiliary(prompt, "").views == "none"
    changed = with_auxiliary(prompt, "from side view, from back view.")
    assert changed.text == "a red bear, from side view, from back view."
    assert changed.views == "none"


def test_a_callable_of_ones_own_is_a_classifier():
    prior = bank()
    method = usd(prior, classifier={"kind": "test_usd:brightness"}, jacobian="vae", limit="none")
    guided = answer(method, prior)[0]
    assert set(guided.logs) == {"seen_bright", "seen_dark", "correction"}
    assert torch.isfinite(guided.gradient).all()


class Answers:
    """Whatever it was made with, for pictures that it does not look at."""

    classes = ("one", "other")

    def __init__(self, *rows):
        self.rows = rows

    def __call__(self, images):
        return torch.tensor(self.rows).expand(len(images), -1) + 0 * images.mean()


logits, too_many = Answers(3.0, -2.0), Answers(0.5, 0.25, 0.25)


def blind(images):
    return torch.full((len(images), 2), 0.5)


blind.classes = ("one", "other")


def one_text(images):
    return torch.full((len(images), 2), 0.5)


one_text.classes = "ab"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("logits", "numbers that are no probabilities: at least 0, and 1 in each row together"),
        ("too_many", r"numbers of shape \[4, 3\] instead of \[4, 2\]"),
        ("blind", "probabilities that the pictures' gradient does not reach"),
        ("one_text", "whose `classes` are one text"),
    ],
)
def test_what_a_callable_of_ones_own_gets_wrong_is_told(name, told):
    with pytest.raises(
        ConfigError, match=f"guidance.classifier.kind is 'test_usd:{name}', .*{told}"
    ):
        answer(usd(bank(), classifier={"kind": f"test_usd:{name}"}), bank())


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("nobody", "guidance.classifier.kind is 'nobody', but it cannot be loaded"),
        ("torch:nobody", "guidance.classifier.kind is 'torch:nobody', but it cannot be loaded"),
        ("torch:sum", "'torch:sum', which is not a callable from pictures to probabilities"),
    ],
)
def test_a_classifier_that_is_not_there_is_refused(kind, told):
    with pytest.raises(ConfigError, match=told):
        usd(bank(), classifier={"kind": kind})


def test_perp_neg_is_refused():
    within = exact.guidance_context(bank())
    prompt = within.prompt.model_copy(update={"perp_neg": True})
    with pytest.raises(ConfigError, match="perp_neg is true, but guidance 'usd' says no view"):
        USD(options(), replace(within, prompt=prompt))
