"""ESD against VSD, brute force and the closed form of its fixed point."""

from math import asin, e, pi
from typing import get_args

import pytest
import torch
from torch import Generator

from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.cameras import orbit_cameras
from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.estimator import AbstractNoiseEstimator, EstimatorOptions
from sd_core.guidance import GuidanceContext
from sd_core.noising import Noised
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.renderers.affine import normal_from_cameras
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.contracts import GuidanceContract
from sd_core.timesteps import ScheduleName, TimestepOptions
from sd_guidance_esd.esd import ESD, ESDOptions, entropy_weight_at, esd_source

STEP = Step(0, 100)


class TestContract(GuidanceContract):
    def make(self, context: GuidanceContext) -> ESD:
        return ESD(ESDOptions(), context)


def options(**values):
    return parse_options(ESDOptions, values, where="guidance")


def gradient(method, latents):
    generator = Generator().manual_seed(0)
    cameras = exact.some_cameras(len(latents))
    return method.gradient(latents, cameras, step=STEP, generator=generator)


@pytest.mark.parametrize("schedule", get_args(ScheduleName))
def test_it_goes_with_every_choice_of_t(schedule):
    timesteps = {"schedule": schedule}
    if schedule == "pieces":
        timesteps["pieces"] = [[0.0, 0.02, 0.5]]
    prior = exact.mixture_prior(channels=2, height=2, width=1)
    context, latents = exact.guidance_context(prior), exact.some_latents(prior, 6)
    as_vsd = VSD(parse_options(VSDOptions, {"timesteps": timesteps}, where=""), context)
    guided = gradient(ESD(options(timesteps=timesteps, entropy_weight=1.5), context), latents)
    assert torch.equal(guided.t, gradient(as_vsd, latents).t)
    assert guided.gradient.isfinite().all() and guided.gradient.any()


@pytest.mark.parametrize("entropy_weight", [0.0, 0.25, 0.5, 1.0, 1.5])
def test_the_gradient_is_the_weighted_sum_of_the_exact_scores(entropy_weight):
    """The camera-free score by autograd of log mean_i N(x_t; α·x_i, σ²I) over the renders."""
    prior = exact.mixture_prior(channels=2, height=2, width=1, dtype=torch.float64)
    method = ESD(options(entropy_weight=entropy_weight, scale=7.5), exact.guidance_context(prior))
    latents = exact.some_latents(prior, 6).double()
    guided = gradient(method, latents)

    noised = guided.observed.noised
    alpha = prior.schedule.alpha(noised.t, latents).flatten()
    sigma = prior.schedule.sigma(noised.t, latents).flatten()
    noisy = noised.noisy.clone().requires_grad_()
    log_density = [
        (-(x - a * latents).flatten(1).square().sum(1) / (2 * s**2)).logsumexp(0)
        for x, a, s in zip(noisy, alpha, sigma, strict=True)
    ]
    (score,) = torch.autograd.grad(sum(log_density), noisy)
    sigma = sigma.view(-1, 1, 1, 1)
    text = prior.encode_text(
        [f"{exact.PROMPT}, {view} view" for view in ("front", "side", "side", "back", "side")]
        + [f"{exact.PROMPT}, side view"]
    )
    uncond = prior.predict_noise(noised.noisy, noised.t, prior.encode_text([""] * 6))
    target = prior.predict_noise(noised.noisy, noised.t, text)
    target = uncond + 7.5 * (target - uncond)
    expected = sigma**2 * (
        target - entropy_weight * -sigma * score - (1 - entropy_weight) * noised.noise
    )
    torch.testing.assert_close(guided.gradient, expected, rtol=1e-6, atol=1e-6)


def test_the_source_is_affine_in_lambda():
    camera_free, at_camera = torch.tensor([[[[2.0]]]]), torch.tensor([[[[10.0]]]])
    for entropy_weight, expected in ((0.0, 10.0), (0.25, 8.0), (1.0, 2.0), (1.5, -2.0)):
        assert float(esd_source(camera_free, at_camera, entropy_weight)) == expected


def test_zero_entropy_is_vsd_to_the_bit():
    learning = EstimatorOptions(camera_dropout=0.5, shared_noise=True)
    prior = exact.mixture_prior()
    esd = ESD(options(entropy_weight=0), exact.guidance_context(prior))
    vsd = VSD(VSDOptions(estimator=learning), exact.guidance_context(prior))
    latents = exact.some_latents(prior, 4)
    assert torch.equal(gradient(esd, latents).gradient, gradient(vsd, latents).gradient)


def test_lambda_follows_its_schedule_and_may_exceed_one():
    rising = options(entropy_weight=0.5, entropy_weight_end=1.5, entropy_weight_until=0.5)
    found = [entropy_weight_at(rising, Step(index, 100)) for index in (0, 25, 50, 99)]
    assert found == [0.5, 1.0, 1.5, 1.5]
    falling = options(entropy_weight=1, entropy_weight_end=0)
    assert entropy_weight_at(falling, Step(75, 100)) == 0.25
    assert entropy_weight_at(options(), Step(99, 100)) == 0.5


def test_a_gradient_takes_lambda_from_its_step_and_logs_it():
    prior = exact.mixture_prior()
    moving = ESD(options(entropy_weight=0, entropy_weight_end=1), exact.guidance_context(prior))
    fixed = ESD(options(entropy_weight=0.75), exact.guidance_context(prior))
    latents, late = exact.some_latents(prior, 4), Step(75, 100)
    found = [
        method.gradient(
            latents, exact.some_cameras(4), step=late, generator=Generator().manual_seed(0)
        )
        for method in (moving, fixed)
    ]
    assert torch.equal(found[0].gradient, found[1].gradient)
    assert found[0].logs["entropy_weight"] == 0.75


def test_presets_are_the_papers_and_the_released_values():
    assert options().estimator == EstimatorOptions(camera_dropout=0.5, shared_noise=True)
    assert options().timesteps.schedule == "uniform"
    released = options(preset="released")
    assert released.estimator == EstimatorOptions(camera_dropout=0.1, shared_noise=False)
    assert released.timesteps == TimestepOptions(schedule="hard-switch")
    assert released.entropy_weight == 0.5 and released.scale == 7.5
    mine = options(preset="released", estimator={"learning_rate": 1e-3})
    assert mine.estimator.camera_dropout == 0.1 and mine.estimator.learning_rate == 1e-3
    assert options(estimator={"learning_rate": 1e-3}).estimator.camera_dropout == 0.5


def test_a_negative_lambda_and_another_preset_are_refused():
    with pytest.raises(ConfigError, match=r"guidance.entropy_weight is -1"):
        options(entropy_weight=-1)
    with pytest.raises(ConfigError, match=r"guidance.preset is 'mine', but it should be 'paper'"):
        options(preset="mine")


def test_a_time_of_arrival_without_an_end_is_refused():
    with pytest.raises(ConfigError, match=r"entropy_weight_until is 0.5, but λ stays where it is"):
        options(entropy_weight_until=0.5)
    told = options(entropy_weight_end=1.0, entropy_weight_until=0.5).model_dump()
    assert options(**told) == options(entropy_weight_end=1.0, entropy_weight_until=0.5)


# The fixed point on a Gaussian


class RendersOfAGaussian(AbstractNoiseEstimator):
    """The exact scores of x = b + A·c, c ~ N(0, I), with and without the camera (eq. 64, 65)."""

    def __init__(self, prior, offset, matrix):
        super().__init__()
        self.prior, self.offset, self.matrix = prior, offset, matrix

    def predict_noise(self, noised, condition, cameras):
        if cameras is not None:
            return noised.noise
        covariance = (self.matrix @ self.matrix.T)[None]
        renders = GaussianMixturePrior(self.offset.view(1, 2, 1, 1), covariance)
        return renders.predict_noise(
            noised.noisy, noised.t, renders.encode_text([""] * len(noised))
        )

    def fit(self, noised, condition, cameras, *, predicted, step, generator):
        return {}


class WithoutNoise(ESD):
    """At x_t = α·x0: all scores are affine in ε, so these are their means over ε."""

    def noised(self, latents, cameras, *, step, generator):
        noised = super().noised(latents, cameras, step=step, generator=generator)
        alpha = self.prior.schedule.alpha(noised.t, latents)
        return Noised(latents, torch.zeros_like(latents), noised.t, alpha * latents)


def four_cameras():
    """c = ±√2·e₁, ±√2·e₂: mean 0 and covariance I, as all cameras together have."""
    elevation = torch.full((4,), asin(2 / e - 1), dtype=torch.float64)
    azimuth = torch.arange(4, dtype=torch.float64) * pi / 2
    one = torch.ones(4, dtype=torch.float64)
    return orbit_cameras(azimuth=azimuth, elevation=elevation, distance=one, vertical_fov=one)


def fitted(entropy_weight, t, target, steps=1000):
    """A, after following ESD's mean gradient from A = I and b = 0."""
    mean = torch.tensor([2.0, 1.0], dtype=torch.float64)
    prior = GaussianMixturePrior(mean.view(1, 2, 1, 1), target[None])
    fixed = TimestepOptions(low=t / 1000 - 1e-4, high=t / 1000 + 1e-4)
    config = ESDOptions(scale=1, weight="uniform", timesteps=fixed, entropy_weight=entropy_weight)
    method = WithoutNoise(config, exact.guidance_context(prior))
    offset = torch.zeros(2, dtype=torch.float64)
    matrix = torch.eye(2, dtype=torch.float64)
    method.estimator = RendersOfAGaussian(prior, offset, matrix)
    cameras, generator = four_cameras(), Generator().manual_seed(0)
    normal = normal_from_cameras(cameras)
    for _ in range(steps):
        latents = (offset + normal @ matrix.T).view(4, 2, 1, 1)
        guided = method.gradient(latents, cameras, step=STEP, generator=generator)
        g = guided.gradient.flatten(1)
        offset -= 0.9 * g.mean(0)
        matrix -= 0.9 * g.T @ normal / 4
    torch.testing.assert_close(offset, mean, rtol=1e-6, atol=1e-6)
    return matrix


@pytest.mark.parametrize("entropy_weight", [1.0, 0.75, 0.5, 0.0])
def test_the_fixed_point_on_a_gaussian_is_its_closed_form(entropy_weight):
    """A·Aᵀ = λ·Σ* - (1 - λ)·(σ²/α²)·I in the directions where that is positive, 0 in the others.

    E[ε_p·cᵀ] = σ·α·(α²Σ* + σ²I)⁻¹·A, E[ε_φ·cᵀ] = σ·α·(α²AAᵀ + σ²I)⁻¹·A, and at the camera ε_φ is
    the drawn noise, which knows nothing of c. At rest (α²AAᵀ + σ²I)·A = λ·(α²Σ* + σ²I)·A.
    """
    t, target = 500, torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    prior = exact.mixture_prior()
    ratio = float(prior.schedule.sigmas[t] / prior.schedule.alphas[t]) ** 2
    values, axes = torch.linalg.eigh(target)
    kept = (entropy_weight * values - (1 - entropy_weight) * ratio).clamp_min(0)
    expected = axes @ torch.diag(kept) @ axes.T
    matrix = fitted(entropy_weight, t, target)
    torch.testing.assert_close(matrix @ matrix.T, expected, rtol=0, atol=2e-3)


def test_at_lambda_one_the_views_are_distributed_as_the_prior():
    target = torch.tensor([[1.5, -0.4], [-0.4, 0.6]], dtype=torch.float64)
    matrix = fitted(1.0, 300, target)
    torch.testing.assert_close(matrix @ matrix.T, target, rtol=1e-4, atol=1e-4)


def test_a_share_between_keeps_the_long_direction_and_loses_the_short_one():
    target = torch.tensor([[2.0, 0.0], [0.0, 0.05]], dtype=torch.float64)
    matrix = fitted(0.75, 500, target)
    spread = (matrix @ matrix.T).diagonal()
    assert 0.3 < float(spread[0]) < 2.0
    assert float(spread[1]) < 2e-3
