"""How much JSD's gradient varies with its noise, beside SDS's at the same t and weight.

The paper's section 5.1 says that it varies less, since its second prediction is a control variate.
It is not so at guidance 13.5 on the eight Gaussians, at two points and every t tried from 250 on:
x̂_t is inverted, so it shares no noise with x̄_t, and the fresh noise of x̄_t stays in the gradient,
whereas SDS takes its own away again. Close to clean it depends on the place.
"""

import math

import pytest
import torch
from torch import Generator

from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.guidance import GuidanceContext
from sd_core.noising import NoiseSchedule
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.prompts import PromptOptions
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.timesteps import TimestepOptions
from sd_guidance_jsd.jsd import JSD
from sd_guidance_jsd.options import JSDOptions

DRAWS = 2000


def eight_modes():
    """The paper's: eight on the unit circle, 0.1 wide, β linear; each has a prompt of its own."""
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return GaussianMixturePrior(
        torch.stack([angle.cos(), angle.sin()], 1).view(8, 2, 1, 1),
        0.01 * torch.eye(2, dtype=torch.float64).expand(8, 2, 2),
        prompts=[[f"mode {number}"] for number in range(8)],
        schedule=NoiseSchedule.linear(),
    )


def squared_deviations(prior, method, kind, *, point, t, scale, own_weight=False):
    """‖r - mean r‖² of each draw, r = ε̂_p - ε (SDS) or ε̂(x̂_t) - ε̂(x̄_t) (JSD)."""
    fixed = TimestepOptions(schedule="uniform", low=t / 1000 - 1e-4, high=t / 1000 + 1e-4)
    config = kind(scale=scale, timesteps=fixed)
    prompt = PromptOptions(text="mode 0", views="none")
    guidance = method(config, GuidanceContext(prior, prompt, find=None))
    latents = torch.tensor(point, dtype=torch.float64).view(1, 2, 1, 1).expand(DRAWS, -1, -1, -1)
    cameras, generator = exact.some_cameras(DRAWS), Generator().manual_seed(0)
    guided = guidance.gradient(latents, cameras, step=Step(0, 10), generator=generator)
    weights = 1.0 if own_weight else guidance.weights(guided.observed.noised, step=Step(0, 10))
    found = (guided.gradient / weights).flatten(1)
    return (found - found.mean(0)).square().sum(1)


def ratio(**where):
    """The variance of JSD over that of SDS: the middle and the ends of 99 % of the bootstrap."""
    prior, generator = eight_modes(), Generator().manual_seed(1)
    mine, theirs = (
        squared_deviations(prior, method, kind, **where)
        for method, kind in ((JSD, JSDOptions), (SDS, SDSOptions))
    )
    rows = [torch.randint(DRAWS, (400, DRAWS), generator=generator) for _ in range(2)]
    again = mine[rows[0]].mean(1) / theirs[rows[1]].mean(1)
    low, middle, high = again.quantile(torch.tensor([0.005, 0.5, 0.995], dtype=again.dtype))
    return float(low), float(middle), float(high)


NEAR_THE_MODE, FAR_FROM_IT = (0.9, 0.2), (-1.0, 1.0)


@pytest.mark.parametrize("t", [250, 400, 600, 800, 980])
@pytest.mark.parametrize("point", [NEAR_THE_MODE, FAR_FROM_IT], ids=["near", "far"])
def test_at_the_same_weight_jsd_varies_more_than_sds_over_all_of_its_t(point, t):
    low, _, _ = ratio(point=point, t=t, scale=13.5)
    assert low > 1.2


@pytest.mark.parametrize("point", [NEAR_THE_MODE, FAR_FROM_IT], ids=["near", "far"])
def test_at_their_own_weights_it_varies_more_on_both_sides_of_the_middle_and_less_there(point):
    """α·σ against SDS's σ²: (α/σ)² times the ratio above."""
    for t in (50, 250, 600, 800):
        assert ratio(point=point, t=t, scale=13.5, own_weight=True)[0] > 1.2
    assert ratio(point=point, t=400, scale=13.5, own_weight=True)[2] < 0.9


@pytest.mark.parametrize("t", [20, 50])
def test_near_a_mode_and_close_to_clean_jsd_varies_less(t):
    _, _, high = ratio(point=NEAR_THE_MODE, t=t, scale=13.5)
    assert high < 0.8


def test_far_from_the_mode_it_varies_more_there_too():
    for t in (20, 50):
        low, _, _ = ratio(point=FAR_FROM_IT, t=t, scale=13.5)
        assert low > 3


@pytest.mark.parametrize("t", [10, 20, 30, 100, 500])
def test_without_guidance_the_ratio_is_its_closed_form(t):
    """One Gaussian of variance S: c = σ²/(α²·S + σ²) of the noise comes back. JSD keeps it, SDS
    takes 1 of it away: the ratio is c²/(1 - c)², below 1 only where σ² < α²·S."""
    schedule = NoiseSchedule.linear()
    kept = 0.01 * float(schedule.alphas[t]) ** 2
    noise = float(schedule.sigmas[t]) ** 2
    expected = (noise / kept) ** 2
    low, _, high = ratio(point=FAR_FROM_IT, t=t, scale=1.0)
    assert low < expected < high
    assert (expected < 1) == (noise < kept)
