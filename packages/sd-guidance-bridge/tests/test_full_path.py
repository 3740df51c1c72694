"""The full path against the closed form of the probability flow between Gaussians."""

import pytest
import torch
from torch import Generator

from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.guidance import GuidanceContext
from sd_core.noising import NoiseSchedule
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.prompts import PromptOptions
from sd_core.step import Step
from sd_core.testing import exact
from sd_guidance_bridge.bridge import Bridge
from sd_guidance_bridge.full_path import noisy_end, walk_down_twice
from sd_guidance_bridge.options import BridgeOptions, FullPathOptions

STANDARD = 0.7  # deviation of both Gaussians
SOURCE = torch.tensor([-1.0, 0.5], dtype=torch.float64).view(2, 1, 1)
TARGET = torch.tensor([1.0, 2.0], dtype=torch.float64).view(2, 1, 1)


@pytest.fixture
def prior():
    return GaussianMixturePrior(
        torch.stack([SOURCE, TARGET]),
        STANDARD**2 * torch.eye(2, dtype=torch.float64).expand(2, 2, 2),
        prompts=[["source"], ["target"]],
    )


def flow_to_clean(noisy, mean, alpha, sigma):
    """ψ_0 = μ + s/√(α²s² + σ²)·(x_t - α·μ): the flow keeps the number of standard deviations."""
    return mean + STANDARD / (alpha**2 * STANDARD**2 + sigma**2).sqrt() * (noisy - alpha * mean)


def flow_to_noise(clean, mean, alpha, sigma):
    return alpha * mean + (alpha**2 * STANDARD**2 + sigma**2).sqrt() / STANDARD * (clean - mean)


def test_the_ways_down_end_where_the_flow_ends(prior):
    t = torch.tensor([300, 800])
    noisy = exact.some_latents(prior, 2).double()
    texts = prior.encode_text(["target"] * 2), prior.encode_text(["source"] * 2)

    def predict(target, source, times):
        return (
            prior.predict_noise(target, times, texts[0]),
            prior.predict_noise(source, times, texts[1]),
        )

    found = walk_down_twice(noisy, t=t, steps=300, schedule=prior.schedule, predict=predict)
    alpha, sigma = prior.schedule.alpha(t, noisy), prior.schedule.sigma(t, noisy)
    for end, mean in zip(found, (TARGET, SOURCE), strict=True):
        torch.testing.assert_close(end, flow_to_clean(noisy, mean, alpha, sigma), atol=2e-2, rtol=0)


def test_its_gradient_is_minus_the_displacement_of_the_two_flows(prior):
    """Up under the source and down under the target; down under the source leads back."""
    config = {
        "source_text": "source",
        "switch_at": 0,
        "full_path": {"start": 0, "steps": 300, "first": 0.6, "last": 0.6, "weight": 2.0},
    }
    method = bridge(prior, config)
    latents = exact.some_latents(prior, 3).double()
    guided = method.gradient(
        latents, exact.some_cameras(3), step=Step(0, 10), generator=Generator().manual_seed(0)
    )
    t = torch.full((3,), 600)
    assert torch.equal(guided.t, t)
    alpha, sigma = prior.schedule.alpha(t, latents), prior.schedule.sigma(t, latents)
    noisy = flow_to_noise(latents, SOURCE, alpha, sigma)
    torch.testing.assert_close(guided.observed.noised.noisy, noisy, atol=2e-2, rtol=0)
    displacement = flow_to_clean(noisy, TARGET, alpha, sigma) - latents
    torch.testing.assert_close(guided.gradient, -2 * displacement, atol=5e-2, rtol=0)


def bridge(prior, config):
    context = GuidanceContext(
        prior, PromptOptions(text="target"), exact.guidance_context(prior).find
    )
    return Bridge(parse_options(BridgeOptions, config, where=""), context)


def test_its_noisy_end_is_annealed_along_the_run(prior):
    full = {"start": 0.5, "steps": 2, "first": 0.8, "last": 0.2}
    method = bridge(prior, {"source_text": "source", "switch_at": 0.5, "full_path": full})
    latents, found = exact.some_latents(prior, 2).double(), []
    for index in (6, 8, 10):
        guided = method.gradient(
            latents, exact.some_cameras(2), step=Step(index, 11), generator=Generator()
        )
        found.append(guided.t.tolist())
    assert found == [[800, 800], [500, 500], [200, 200]]


def test_pure_noise_at_its_end_is_refused():
    prior = exact.mixture_prior()
    prior.schedule = NoiseSchedule.rectified_flow()
    full = {"start": 0, "first": 1.0}
    with pytest.raises(ConfigError, match=r"the full path ends in pure noise \(t = 999 of 1000\)"):
        bridge(
            prior,
            {
                "source": "null",
                "target_text": exact.PROMPT,
                "switch_at": 0,
                "source_text": exact.PROMPT,
                "full_path": full,
            },
        )


def test_one_step_of_it_is_the_single_step_in_other_units(prior):
    """ψ = (x_t - σ·ε)/α, so -w·(ψ_tgt - ψ_src) = w·(σ/α)·(ε_tgt - ε_src)."""
    t = torch.tensor([400, 700])
    noisy = exact.some_latents(prior, 2).double()
    noise = {name: prior.predict_noise(noisy, t, prior.encode_text([name] * 2))
             for name in ("target", "source")}  # fmt: skip
    found = walk_down_twice(
        noisy,
        t=t,
        steps=1,
        schedule=prior.schedule,
        predict=lambda *_: (noise["target"], noise["source"]),
    )
    alpha, sigma = prior.schedule.alpha(t, noisy), prior.schedule.sigma(t, noisy)
    expected = -sigma / alpha * (noise["target"] - noise["source"])
    torch.testing.assert_close(found[0] - found[1], expected)


def test_the_noisy_end_moves_from_first_to_last():
    options = FullPathOptions(start=0.5, first=0.8, last=0.2)
    found = [noisy_end(options, Step(index, 11)) for index in (6, 8, 10)]
    assert found == pytest.approx([0.8, 0.5, 0.2])
    assert noisy_end(FullPathOptions(start=0.0, first=0.7), Step(0, 1)) == 0.7
