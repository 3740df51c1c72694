"""Perp-Neg: how views are blended, and what they are pushed away from."""

from math import exp, radians

import pytest
import torch
from torch import Generator

from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.cameras import orbit_cameras
from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.guidance import GuidanceContext
from sd_core.noising import draw
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.prompts import PromptOptions
from sd_core.step import Step
from sd_core.testing.contracts import GuidanceContract
from sd_core.view_conditions import blend_of, view_conditions

PROMPT = PromptOptions(text="a bear", perp_neg=True)
VIEWS = ("front", "side", "back", "overhead")


def blend(azimuth, elevation=10.0):
    return blend_of(radians(azimuth), radians(elevation), PROMPT)


def cameras(*azimuths, elevation=10.0):
    count = len(azimuths)
    return orbit_cameras(
        azimuth=torch.tensor(azimuths).deg2rad(),
        elevation=torch.full((count,), elevation).deg2rad(),
        distance=torch.full((count,), 2.0),
        vertical_fov=torch.full((count,), 0.7),
    )


def prior():
    """Of each view's text another Gaussian, and of the empty one all four."""
    means = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]).view(4, 2, 1, 1)
    texts = [[f"a bear, {view} view"] for view in VIEWS]
    return GaussianMixturePrior(means, 0.3 * torch.eye(2).expand(4, 2, 2), prompts=texts)


@pytest.mark.parametrize("sign", [1, -1])
def test_views_are_blended_by_azimuth(sign):
    near, far, share = (
        [getattr(blend(sign * azimuth), name) for azimuth in (0, 30, 60, 89.9, 120, 180)]
        for name in ("near", "far", "share")
    )
    assert near == ["front"] * 4 + ["side"] * 2 and far == ["side"] * 4 + ["back"] * 2
    assert share == pytest.approx([1, 2 / 3, 1 / 3, 1 / 900, 2 / 3, 0])


def test_weights_are_those_of_the_formulas():
    front = blend(45)
    assert front.away == ("front", "side")
    assert front.weights == pytest.approx([2.426 - 4 * exp(-0.25)] * 2)
    back = blend(180)
    assert back.away == ("side", "front")
    assert back.weights == pytest.approx((-0.394, -1.967))
    assert blend(0).weights[0] == pytest.approx(-1.574 + 1.574, abs=2e-4)
    assert blend(0).weights[1] == pytest.approx(-1.574, abs=1e-3)


def test_nothing_jumps_where_the_halves_meet():
    before, after = blend(90 - 1e-6), blend(90 + 1e-6)
    weights = [dict(zip(each.away, each.weights, strict=True)) for each in (before, after)]
    for view in ("front", "side"):
        assert weights[0][view] == pytest.approx(weights[1][view], abs=1e-3)


def test_from_above_nothing_is_pushed_away():
    above = blend(30, elevation=70)
    assert (above.near, above.share, above.weights) == ("overhead", 1.0, (0.0, 0.0))


def test_no_weight_pulls():
    for azimuth in range(-180, 181, 5):
        assert max(blend(azimuth).weights) <= 0


def test_between_two_texts_an_exact_prior_has_their_mixture():
    world = prior()
    near, far = (world.encode_text([f"a bear, {view} view"] * 3) for view in ("front", "side"))
    found = world.between(near, far, torch.tensor([1.0, 0.25, 0.0])).tensors["log_weights"].exp()
    expected = [[1, 0, 0, 0], [0.25, 0.75, 0, 0], [0, 1, 0, 0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_the_target_is_the_formula_each_sample_with_its_own_views():
    """ε̂ = ε(∅) + s·(e₊ + Σ w_i·(e_i - ⟨e_i, e₊⟩/‖e₊‖²·e₊)), one sample after the other."""
    world, where = prior(), (20.0, -130.0, 75.0)
    context = GuidanceContext(world, PROMPT, lambda name, options: None)
    method = SDS(SDSOptions(scale=5.0), context)
    latents = torch.randn(3, 2, 1, 1, generator=Generator().manual_seed(0))
    t = torch.tensor([300, 600, 900])
    noised = draw(world.schedule, latents, t, Generator().manual_seed(1))
    guided = method.target(noised, cameras(*where), step=Step(0, 9), generator=Generator()).noise
    for index, azimuth in enumerate(where):
        told = blend(azimuth)
        noisy, time = noised.noisy[index : index + 1], t[index : index + 1]

        def ask(weights, noisy=noisy, time=time):
            condition = world.encode_text([""])
            condition.tensors["log_weights"] = torch.tensor([weights]).log()
            return world.predict_noise(noisy, time, condition).flatten()

        nothing = ask([0.25] * 4)
        blended = [
            told.share * (view == told.near) + (1 - told.share) * (view == told.far)
            for view in VIEWS
        ]
        positive = ask(blended) - nothing
        direction = positive.clone()
        for view, weight in zip(told.away, told.weights, strict=True):
            own = ask([float(view == each) for each in VIEWS]) - nothing
            direction += weight * (own - own @ positive / (positive @ positive) * positive)
        torch.testing.assert_close(
            guided[index].flatten(), nothing + 5 * direction, rtol=1e-3, atol=1e-4
        )


def test_without_it_the_conditions_are_the_view_texts():
    told = view_conditions(prior(), PromptOptions(text="a bear"), cameras(0.0, 180.0))
    assert told.away is None
    assert told.text.prompts == ("a bear, front view", "a bear, back view")


def test_without_view_texts_it_is_refused():
    with pytest.raises(ConfigError, match="perp_neg is true, but views is none"):
        parse_options(PromptOptions, {"text": "x", "views": "none", "perp_neg": True}, where="")


class TestPerpNeg(GuidanceContract):
    @pytest.fixture
    def prior(self):
        means = torch.randn(4, 3, 2, 2, generator=Generator().manual_seed(0))
        texts = [["a red bear", f"a red bear, {view} view"] for view in VIEWS]
        return GaussianMixturePrior(means, 0.3 * torch.eye(12).expand(4, 12, 12), prompts=texts)

    def make(self, context):
        prompt = context.prompt.model_copy(update={"perp_neg": True})
        return SDS(SDSOptions(), GuidanceContext(context.prior, prompt, context.find))
