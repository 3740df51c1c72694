"""SDS, VSD and mix against closed forms on exact priors."""

from types import MappingProxyType

import pytest
import torch
from torch import Generator

from sd_core.baselines.mix import Mix, MixOptions
from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.estimator import AbstractNoiseEstimator
from sd_core.guidance import AbstractGuidance, GuidanceContext, Guided
from sd_core.prompts import PromptOptions
from sd_core.residual import Prediction, residual_gradient
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.timesteps import TimestepOptions

STEP = Step(0, 100)
METHODS = MappingProxyType({"sds": (SDS, SDSOptions), "vsd": (VSD, VSDOptions)})


@pytest.fixture
def prior():
    return exact.mixture_prior(channels=2, height=2, width=1, dtype=torch.float64)


def context(prior, extra=None):
    """A context that finds SDS and VSD, and the methods in `extra`."""
    here = GuidanceContext(
        prior, PromptOptions(text=exact.PROMPT), lambda name, options: find(name, options)
    )

    def find(name, options):
        if extra and name in extra:
            return extra[name](here)
        method, kind = METHODS[name]
        return method(kind(**options), here)

    return here


def gradient(guidance, latents, seed=0):
    cameras = exact.some_cameras(len(latents))
    return guidance.gradient(
        latents, cameras, step=STEP, generator=Generator().manual_seed(seed)
    ).gradient


def fixed_t(t):
    """A schedule of a single t of 1000."""
    return TimestepOptions(schedule="uniform", low=t / 1000 - 1e-4, high=t / 1000 + 1e-4)


def latents_like(prior, count, seed=3):
    return exact.some_latents(prior, count, seed).double()


def test_the_residual_is_weighted_target_minus_source():
    target, source = torch.randn(2, 3, 1, 1, 1, dtype=torch.float64)
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).view(3, 1, 1, 1)
    expected = torch.stack([w * (a - b) for w, a, b in zip(weights, target, source, strict=True)])
    assert torch.equal(residual_gradient(target, source, weights), expected)


def test_sds_on_one_gaussian_has_its_closed_form_in_expectation(prior):
    """E_ε[ε_p(x_t)] = σ·(α²Σ + σ²I)⁻¹·α·(x0 - μ), E[ε] = 0, so E[g] = w·σ·α·(...)⁻¹·(x0 - μ)."""
    t = 400
    guidance = SDS(SDSOptions(scale=1.0, timesteps=fixed_t(t)), context(prior))
    x0 = latents_like(prior, 1)
    count = 60_000
    drawn = gradient(guidance, x0.expand(count, -1, -1, -1)).flatten(1)

    alpha, sigma = float(prior.schedule.alphas[t]), float(prior.schedule.sigmas[t])
    covariance = prior._axes[0] @ torch.diag(prior._eigenvalues[0]) @ prior._axes[0].T
    inverse = torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(4).double())
    expected = sigma**2 * sigma * alpha * inverse @ (x0.flatten() - prior.means[0])
    error = drawn.std(0) / count**0.5
    assert ((drawn.mean(0) - expected).abs() < 5 * error).all()
    assert (expected.abs() > 10 * error).any()  # the test can tell it from zero


def test_sds_equals_the_weighted_noise_difference_at_the_drawn_noise(prior):
    guidance = SDS(SDSOptions(scale=7.5), context(prior))
    x0 = latents_like(prior, 3)
    seen = guidance.gradient(
        x0, exact.some_cameras(3), step=STEP, generator=Generator().manual_seed(0)
    )
    noised = seen.observed.noised
    text = prior.predict_noise(noised.noisy, noised.t, prior.encode_text([exact.PROMPT] * 3))
    uncond = prior.predict_noise(noised.noisy, noised.t, prior.encode_text([""] * 3))
    sigma = prior.schedule.sigma(noised.t, x0)
    expected = sigma**2 * (uncond + 7.5 * (text - uncond) - noised.noise)
    torch.testing.assert_close(seen.gradient, expected, rtol=1e-12, atol=1e-12)


class PriorsOwnScore(AbstractNoiseEstimator):
    """The estimator of a scene whose renders are exactly the prior's samples: q = p."""

    def __init__(self, prior):
        super().__init__()
        self.prior = prior

    def predict_noise(self, noised, condition, cameras):
        return self.prior.predict_noise(noised.noisy, noised.t, condition)

    def fit(self, noised, condition, cameras, *, predicted, step, generator):
        return {}


def test_vsd_is_zero_where_the_renders_are_the_priors_samples(prior):
    guidance = VSD(VSDOptions(scale=1.0), context(prior))
    guidance.estimator = PriorsOwnScore(prior)
    x0 = prior.sample(64, exact.PROMPT, generator=Generator().manual_seed(1))
    assert torch.equal(gradient(guidance, x0), torch.zeros_like(x0))


def test_vsd_with_the_exact_estimator_of_one_scene_is_sds_to_the_bit(prior):
    """One scene and exact scores: q(x_t | c) is a Gaussian around the render, ε_q is ε itself."""
    x0 = latents_like(prior, 4)
    sds = gradient(SDS(SDSOptions(scale=7.5), context(prior)), x0)
    assert torch.equal(gradient(VSD(VSDOptions(scale=7.5), context(prior)), x0), sds)


def test_camera_free_estimates_are_the_score_of_all_renders_seen(prior):
    guidance = VSD(VSDOptions(), context(prior))
    cameras = exact.some_cameras(3)
    batches = [latents_like(prior, 3, seed) for seed in range(3)]
    for latents in batches:
        guided = guidance.gradient(
            latents, cameras, step=STEP, generator=Generator().manual_seed(0)
        )
        guidance.update_estimator(
            latents, cameras, guided, step=STEP, generator=Generator().manual_seed(0)
        )
    noised = guided.observed.noised
    free = guidance.estimator.predict_noise(noised, prior.encode_text([""] * 3), None)
    # The last batch is both remembered and at hand, so it counts twice.
    seen = torch.cat([*batches, batches[-1]])
    alpha = prior.schedule.alpha(noised.t, noised.noisy)
    sigma = prior.schedule.sigma(noised.t, noised.noisy)
    distance = (noised.noisy.unsqueeze(1) - alpha.unsqueeze(1) * seen).flatten(2).square().sum(-1)
    share = (-distance / (2 * sigma.flatten(1) ** 2)).softmax(1)
    clean = torch.einsum("bk,kchw->bchw", share, seen)
    torch.testing.assert_close(free, (noised.noisy - alpha * clean) / sigma, rtol=1e-5, atol=1e-5)


def test_mix_of_sds_thrice_is_sds_to_the_bit(prior):
    x0 = latents_like(prior, 4)
    mix = Mix(MixOptions(), context(prior))
    assert torch.equal(gradient(mix, x0), gradient(SDS(SDSOptions(), context(prior)), x0))


def test_mix_of_sds_target_and_vsd_source_is_vsd_to_the_bit(prior):
    options = {"sds": {"scale": 7.5}}
    mix = Mix(MixOptions(target="sds", source="vsd", options=options), context(prior))
    vsd = VSD(VSDOptions(), context(prior))
    for seed in range(3):
        x0 = latents_like(prior, 4, seed)
        cameras = exact.some_cameras(4)
        results = []
        for guidance in (mix, vsd):
            generator = Generator().manual_seed(seed)
            guided = guidance.gradient(x0, cameras, step=STEP, generator=generator)
            guidance.update_estimator(x0, cameras, guided, step=STEP, generator=generator)
            results.append(guided.gradient)
        assert torch.equal(*results)
    assert torch.equal(mix.methods["vsd"].estimator.images, vsd.estimator.images)


def test_a_method_named_twice_is_built_once(prior):
    built = []

    def own(here):
        built.append(VSD(VSDOptions(), here))
        return built[-1]

    mix = Mix(MixOptions(target="own", source="own"), context(prior, {"own": own}))
    assert len(built) == 1
    assert set(mix.methods) == {"sds", "own"}


@pytest.mark.parametrize("part", ["target", "noising"])
def test_only_the_source_of_a_mix_has_an_estimator(prior, part):
    mix = Mix(MixOptions(**{part: "vsd"}), context(prior))
    assert not hasattr(mix.methods["vsd"], "estimator")
    assert gradient(mix, latents_like(prior, 4)).isfinite().all()
    both = Mix(MixOptions(**{part: "vsd", "source": "vsd"}), context(prior))
    assert hasattr(both.methods["vsd"], "estimator")


def test_mix_refuses_options_for_a_method_that_takes_no_part():
    with pytest.raises(ConfigError) as caught:
        parse_options(MixOptions, {"options": {"vsd": {"scale": 1.0}}}, where="stages.0.guidance")
    assert str(caught.value) == (
        "stages.0.guidance: there are options for 'vsd', but no part comes from it. "
        "Name it as noising, target or source, or remove options.vsd."
    )


def test_mix_refuses_the_times_of_a_method_that_does_not_noise():
    times = {"timesteps": {"low": 0.1}}
    with pytest.raises(ConfigError) as caught:
        told = {"target": "vsd", "options": {"vsd": times}}
        parse_options(MixOptions, told, where="stages.0.guidance")
    assert str(caught.value) == (
        "stages.0.guidance: options.vsd.timesteps is {'low': 0.1}, but t comes from the noising, "
        "'sds'. Remove it, or set options.sds.timesteps."
    )
    MixOptions(target="vsd", options={"sds": times})


def test_mix_refuses_a_weight_that_is_not_its_own():
    with pytest.raises(ConfigError) as caught:
        told = {"options": {"sds": {"weight": "uniform"}}}
        parse_options(MixOptions, told, where="stages.0.guidance")
    assert str(caught.value) == (
        "stages.0.guidance: options.sds.weight is 'uniform', but a mix weighs with its own weight. "
        "Remove it, or set that one."
    )


class OwnGradient(SDS):
    """More than its parts."""

    def gradient(self, latents, cameras, *, step, generator):
        return super().gradient(latents, cameras, step=step, generator=generator)


class OwnUpdate(SDS):
    """More than its parts."""

    def update_estimator(self, latents, cameras, guided, *, step, generator):
        return {}


@pytest.mark.parametrize(
    ("own", "lost"), [(OwnGradient, "gradient"), (OwnUpdate, "update_estimator")]
)
@pytest.mark.parametrize("part", ["noising", "target", "source"])
def test_mix_refuses_parts_of_a_method_that_is_more_than_its_parts(prior, own, lost, part):
    extra = {"own": lambda here: own(SDSOptions(), here)}
    with pytest.raises(ConfigError) as caught:
        Mix(MixOptions(**{part: "own"}), context(prior, extra))
    assert str(caught.value) == (
        f"guidance 'mix' cannot take its {part} from 'own': that method has a {lost} of its own, "
        "which its parts do not tell. Use it as a whole: --guidance own."
    )


def test_mix_of_sds_target_and_vsd_source_differs_from_vsd_by_the_scale_alone(prior):
    x0 = latents_like(prior, 4)
    mix = gradient(Mix(MixOptions(target="sds", source="vsd"), context(prior)), x0)
    assert not torch.equal(mix, gradient(VSD(VSDOptions(), context(prior)), x0))
    assert torch.equal(mix, gradient(VSD(VSDOptions(scale=100.0), context(prior)), x0))


class Whole(AbstractGuidance):
    """A method that is not made of parts."""

    def gradient(self, latents, cameras, *, step, generator):
        return Guided(torch.zeros_like(latents), torch.zeros(len(latents), dtype=torch.long))


def test_mix_refuses_parts_of_a_method_that_has_none(prior):
    with pytest.raises(ConfigError) as caught:
        Mix(MixOptions(target="whole"), context(prior, {"whole": lambda _: Whole()}))
    assert str(caught.value) == (
        "guidance 'mix' cannot take its target from 'whole': that method is not made of a noising, "
        "a target and a source. Use it as a whole: --guidance whole."
    )


class Inverting(SDS):
    """A method whose sides make sense only at its own samples."""

    needs_own_noising = True

    def source(self, noised, cameras, *, step, generator):
        return Prediction(noised.noise)


def test_mix_refuses_a_side_away_from_its_own_noising(prior):
    extra = {"inverting": lambda here: Inverting(SDSOptions(), here)}
    with pytest.raises(ConfigError) as caught:
        Mix(MixOptions(target="inverting"), context(prior, extra))
    assert str(caught.value) == (
        "guidance 'mix': the target of 'inverting' is only right at the samples that 'inverting' "
        "noises itself, but the noising is 'sds'. Set guidance.noising=inverting."
    )
    Mix(MixOptions(noising="inverting", target="inverting"), context(prior, extra))


def test_the_negative_prompt_takes_the_place_of_the_empty_one(prior):
    x0 = latents_like(prior, 2)
    plain = SDS(SDSOptions(), context(prior))
    away = GuidanceContext(
        prior, PromptOptions(text=exact.PROMPT, negative="a blue fox"), lambda name, options: plain
    )
    assert not torch.allclose(gradient(SDS(SDSOptions(), away), x0), gradient(plain, x0))
