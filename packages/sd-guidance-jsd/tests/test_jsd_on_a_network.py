"""JSD on a tiny Stable Diffusion: what it asks of the network, and what was released."""

from math import exp

import pytest
import torch
from torch import Generator

pytest.importorskip("diffusers")

from diffusers import DDIMScheduler

from sd_core.cameras import turntable
from sd_core.config import parse_options
from sd_core.guidance import GuidanceContext
from sd_core.prior import AbstractPrior
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.contracts import GuidanceContract
from sd_core.testing.tiny_pipelines import counted_calls, save_tiny_pipeline, tiny_prior
from sd_guidance_jsd.jsd import JSD
from sd_guidance_jsd.options import JSDOptions

BATCH = 2
CAMERAS = exact.some_cameras(BATCH)
UNIFORM = {"schedule": "uniform", "low": 0.02, "high": 0.98}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "sd1", "sd1", sample_size=4)


@pytest.fixture
def prior(folder):
    return tiny_prior(folder)


class TestOnANetwork(GuidanceContract):
    @pytest.fixture
    def prior(self, folder) -> AbstractPrior:
        return tiny_prior(folder)

    def make(self, context: GuidanceContext) -> JSD:
        return JSD(JSDOptions(inversion={"steps": 2}), context)


def jsd(prior, *, perp_neg=False, **values):
    config = parse_options(JSDOptions, values, where="guidance")
    context = exact.guidance_context(prior)
    prompt = context.prompt.model_copy(update={"perp_neg": perp_neg})
    return JSD(config, GuidanceContext(prior, prompt, context.find))


def take(method, latents, step, cameras=CAMERAS):
    generator = Generator().manual_seed(7)
    return method.gradient(latents, cameras, step=step, generator=generator)


@pytest.mark.parametrize(
    ("values", "calls"),
    [
        ({}, 10 + 2 + 2),
        ({"inversion": {"steps": 4}}, 4 + 2 + 2),
        ({"inversion": {"steps": 4, "scale": 7.5}}, 8 + 2 + 2),
        ({"inversion": {"steps": 4}, "scale": 1}, 4 + 1 + 1),
        ({"inversion": {"steps": 4}, "form": "attraction"}, 4 + 2 + 2),
        ({"inversion": {"grid": "fixed"}}, 8 + 2 + 2),  # 0, 1, 101, ... 601 → 615
        ({"preset": "released"}, 16 + 2 + 2),
        ({"preset": "released", "low_density_weight": 0}, 16 + 2),
        ({"preset": "released", "timesteps": UNIFORM}, None),
        ({"preset": "released", "perp_neg": True}, 2 * (16 + 2 + 2)),
        ({"inversion": {"steps": 4}, "perp_neg": True}, 4 * (4 + 1 + 1)),
    ],
)
def test_the_calls_that_are_logged_are_those_that_were_made(prior, values, calls):
    method, latents = jsd(prior, **values), exact.some_latents(prior, BATCH)
    with counted_calls(prior.network) as made:
        guided = take(method, latents, Step(5, 10))
    assert guided.logs["unet_calls"] == sum(made) / BATCH
    assert calls is None or sum(made) == calls * BATCH


def raw_epsilon(prior, noisy, t, scale):
    """ε(neg) + s·(ε(view's text) - ε(neg)), by the bare UNet; at s = 1 ε(view's text)."""
    t = torch.full((BATCH,), t)
    told = [f"{exact.PROMPT}, front view", f"{exact.PROMPT}, back view"]
    with torch.no_grad():
        negative, positive = (
            prior.network(
                noisy, t, encoder_hidden_states=prior.encode_text(text).tensors["text"]
            ).sample
            for text in (["", ""], told)
        )
    return negative + scale * (positive - negative)


# Perp-Neg at azimuths of 30° and 200°: the positive as shares of front, side and back; what each
# is pushed away from, with the weights -(4·exp(-r/2) - 2.426) and so on, written out.
TURNED = turntable(36).select([3, 20])
SHARES_AT = ((2 / 3, 1 / 3, 0), (0, 2 / 9, 7 / 9))
FRONT, SIDE = 0, 1
WEIGHTS_AT = {
    30: ((FRONT, 2.426 - 4 * exp(-1 / 3)), (SIDE, 2.426 - 4 * exp(-1 / 6))),
    200: ((SIDE, 0.606 - exp(-1 / 9)), (FRONT, -0.967 - exp(-1 / 9))),
}


def perp_neg_epsilon(prior, noisy, t, scale):
    """ε(∅) + s·(e + Σ_i w_i·(e_i - ⟨e_i, e⟩/‖e‖²·e)) of each sample, by the bare UNet."""
    views = [
        prior.encode_text([f"{exact.PROMPT}, {view} view"]).tensors["text"]
        for view in ("front", "side", "back")
    ]
    found = []
    for index, (turn, shares) in enumerate(zip((30, 200), SHARES_AT, strict=True)):
        blended = sum(share * view for share, view in zip(shares, views, strict=True))

        def ask(text, index=index):
            one, at = noisy[index : index + 1], torch.tensor([t])
            with torch.no_grad():
                return prior.network(one, at, encoder_hidden_states=text).sample

        nothing = ask(prior.encode_text([""]).tensors["text"])
        e = ask(blended) - nothing
        direction = e.clone()
        for view, weight in WEIGHTS_AT[turn]:
            own = ask(views[view]) - nothing
            direction += weight * (own - (own * e).sum() / (e * e).sum() * e)
        found.append(nothing + scale * direction)
    return torch.cat(found)


def scheduler():
    """As Stable Diffusion's own configuration has it."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def released(prior, z, t, generator, epsilon):
    """dL/dz of the released code at a batch of one, by its steps, for each sample.

    t' = min(t + int(100·u), 999). x climbs the sampler's ten timesteps below t, and t'. Hop a → b:
    x0 = (x - √(1 - ᾱ_a)·ε̂)/√ᾱ_a, x = √ᾱ_b·x0 + √(1 - ᾱ_b)·ε̂ + 0.3·√V·N, at guidance -13.5. It is
    judged at t at guidance 13.5, and its clean form once more, with fresh noise. The code
    differs in one thing: it asks for the first hop at timestep -99, not 0.
    """
    sampler = scheduler()
    sampler.set_timesteps(10)
    bars = sampler.alphas_cumprod
    delta = torch.randint(100, (BATCH,), generator=generator)
    end = (t + delta).clamp(max=999)
    below = [level for level in reversed(sampler.timesteps.tolist()) if level < t]
    x, a = z, bars[0].expand(BATCH).view(-1, 1, 1, 1)
    for asked, reached in zip([0, *below], [*below, end], strict=True):
        b = bars[reached].expand(BATCH).view(-1, 1, 1, 1)
        noise = epsilon(prior, x, asked, -13.5)
        x0 = (x - (1 - a).sqrt() * noise) / a.sqrt()
        variance = ((1 - a) / (1 - b) * (1 - b / a)).clamp(min=0)
        x = b.sqrt() * x0 + (1 - b).sqrt() * noise
        x = x + 0.3 * variance.sqrt() * torch.randn(z.shape, generator=generator)
        a = b
    bar = bars[t]
    high = (x - (1 - bar).sqrt() * epsilon(prior, x, t, 13.5)) / bar.sqrt()
    fresh = torch.randn(z.shape, generator=generator)
    again = sampler.add_noise(high, fresh, torch.full((BATCH,), t))
    low = (again - (1 - bar).sqrt() * epsilon(prior, again, t, 13.5)) / bar.sqrt()
    elements = z[0].numel()
    return (z - high) / elements + 1.0 * (z - low) / elements


@pytest.mark.parametrize(("index", "t"), [(0, 980), (5, 615), (9, 323)])
@pytest.mark.parametrize(
    ("perp_neg", "cameras", "epsilon"),
    [(False, CAMERAS, raw_epsilon), (True, TURNED, perp_neg_epsilon)],
    ids=["with Perp-Neg's weights at 0", "with Perp-Neg"],
)
def test_released_is_what_the_released_code_computes(prior, index, t, perp_neg, cameras, epsilon):
    """The code cuts t off where we round, and computes it for 10,000 steps: these agree on both."""
    assert t == int(1000 * (0.25 + 0.73 * (1 - index / 10)) + 1e-6)
    latents = exact.some_latents(prior, BATCH, 3)
    method = jsd(prior, preset="released", perp_neg=perp_neg)
    guided = take(method, latents, Step(index, 10), cameras)
    expected = released(prior, latents, t, Generator().manual_seed(7), epsilon)
    assert guided.t.tolist() == [t, t]
    scale = float(expected.abs().max())
    torch.testing.assert_close(guided.gradient, expected, rtol=1e-3, atol=2e-4 * scale)


def test_the_paper_is_its_three_steps_and_equation_12(prior):
    """Ten hops at guidance 1, x̄_0 by ε(x̂_t, y), fresh noise, σ²·(α/σ)·(ε̂(x̂_t) - ε̂(x̄_t))."""
    latents, t = exact.some_latents(prior, BATCH, 3), 500
    fixed = {"schedule": "uniform", "low": 0.4999, "high": 0.5001}
    guided = take(jsd(prior, timesteps=fixed), latents, Step(0, 10))
    bars, x, a = scheduler().alphas_cumprod, latents, torch.tensor(1.0)
    for asked in range(0, t, 50):
        b = bars[asked + 50]
        noise = raw_epsilon(prior, x, asked, 1.0)
        x = b.sqrt() * (x - (1 - a).sqrt() * noise) / a.sqrt() + (1 - b).sqrt() * noise
        a = b
    alpha, sigma = a.sqrt(), (1 - a).sqrt()
    clean = (x - sigma * raw_epsilon(prior, x, t, 1.0)) / alpha
    fresh = torch.randn(latents.shape, generator=Generator().manual_seed(7))
    minority = alpha * clean + sigma * fresh
    difference = raw_epsilon(prior, x, t, 13.5) - raw_epsilon(prior, minority, t, 13.5)
    torch.testing.assert_close(guided.gradient, alpha * sigma * difference, rtol=1e-3, atol=1e-4)
    assert difference.abs().max() > 1e-2
