"""What docs/janus.md says of USD's target with ESD's source, where all densities are known."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from sd_core.baselines.mix import Mix, MixOptions
from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.cameras import turntable
from sd_core.config import parse_options
from sd_core.guidance import AbstractGuidance, Guided
from sd_core.priors.image_bank import ImageBankPrior
from sd_core.step import Step
from sd_core.testing.exact import guidance_context
from sd_guidance_esd.esd import ESD, ESDOptions
from sd_guidance_usd.options import USDOptions
from sd_guidance_usd.usd import USD

PROMPT, SIDES = "a red bear", ("front", "right", "back", "left")
WEIGHTS = torch.tensor([0.5, 0.2, 0.1, 0.2], dtype=torch.float64)
METHODS = {"sds": (SDS, SDSOptions), "esd": (ESD, ESDOptions), "usd": (USD, USDOptions)}
USD_TOLD: dict[str, Any] = {
    "scale": 1,
    "marginal": "prior",
    "limit": "none",
    "auxiliary": "",
    "classifier": {"kind": "exact", "phrases": {side: f"{side} view" for side in SIDES}},
}


@pytest.fixture
def prior() -> ImageBankPrior:
    """One picture of each side, most often the front; alike enough for noise to hide them."""
    noise = torch.rand(4, 3, 4, 4, generator=Generator().manual_seed(0), dtype=torch.float64)
    texts = [[PROMPT, f"{PROMPT}, {side} view"] for side in SIDES]
    return ImageBankPrior(0.5 + 0.2 * (noise - 0.5), texts, weights=WEIGHTS)


def mixed(prior: ImageBankPrior, target: str, entropy_weight: float) -> Mix:
    def find(name: str, told: Mapping[str, Any]) -> AbstractGuidance:
        method, options = METHODS[name]
        return method(parse_options(options, told, where=""), guidance_context(prior))

    esd = {"scale": 1, "entropy_weight": entropy_weight}
    options = {"esd": esd, target: USD_TOLD if target == "usd" else {"scale": 1}}
    told = {"noising": "esd", "source": "esd", "target": target, "options": options}
    within = replace(guidance_context(prior), find=find)
    return Mix(parse_options(MixOptions, told, where=""), within)


def asked(mix: Mix, renders: Tensor) -> Guided:
    cameras, generator = turntable(len(renders)), Generator().manual_seed(3)
    return mix.gradient(renders, cameras, step=Step(5, 10), generator=generator)


def noise_of(
    noisy: Tensor, centres: Tensor, shares: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """-σ·∇ log Σ_j s_j·N(x_t; α·x_j, σ²I), by autograd."""
    noisy = noisy.clone().requires_grad_()
    squared = (noisy[:, None] - alpha[:, None] * centres).square().flatten(2).sum(dim=2)
    log_density = (shares.log() - squared / (2 * sigma.flatten(1).square())).logsumexp(dim=1)
    (score,) = torch.autograd.grad(log_density.sum(), noisy)
    return -sigma * score


def test_the_mix_goes_from_what_all_views_show_to_the_sides_in_equal_shares(prior: ImageBankPrior):
    renders = 0.3 * torch.randn(4, 3, 4, 4, generator=Generator().manual_seed(1)).double()
    guided = asked(mixed(prior, "usd", 1.5), renders)
    noised = guided.observed.noised
    alpha, sigma = (of(noised.t, renders) for of in (prior.schedule.alpha, prior.schedule.sigma))
    equal = torch.full((4,), 0.25, dtype=torch.float64)
    wanted = noise_of(noised.noisy, prior.bank, equal, alpha, sigma)
    of_all_views = noise_of(noised.noisy, renders, equal, alpha, sigma)
    expected = wanted - (1.5 * of_all_views - 0.5 * noised.noise)
    torch.testing.assert_close(guided.gradient, sigma**2 * expected)


@pytest.mark.parametrize(
    ("target", "entropy_weight", "at_rest"),
    [("usd", 1.0, True), ("sds", 1.0, False), ("usd", 0.0, False)],
    ids=["USD's target, ESD's source", "ESD's source alone", "USD's target alone"],
)
def test_the_object_that_shows_each_side_once_is_at_rest_only_with_both(
    prior: ImageBankPrior, target: str, entropy_weight: float, at_rest: bool
):
    gradient = asked(mixed(prior, target, entropy_weight), prior.bank.clone()).gradient
    assert (float(gradient.abs().max()) < 1e-9) == at_rest
    assert at_rest or float(gradient.abs().max()) > 1e-3
