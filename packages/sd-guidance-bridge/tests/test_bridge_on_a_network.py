"""The bridge on a tiny Stable Diffusion: what it asks of the network, and what was released."""

import pytest
import torch
from torch import Generator

pytest.importorskip("diffusers")

from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.config import parse_options
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.tiny_pipelines import counted_calls, save_tiny_pipeline, tiny_prior
from sd_guidance_bridge.bridge import Bridge
from sd_guidance_bridge.options import BridgeOptions

BATCH = 2
CAMERAS = exact.some_cameras(BATCH)
ARTIFACTS = (
    "oversaturated, smooth, pixelated, cartoon, foggy, hazy, blurry, bad structure, noisy, "
    "malformed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "sd1", "sd1")


@pytest.fixture
def prior(folder):
    return tiny_prior(folder)


def bridge(prior, **values):
    config = parse_options(BridgeOptions, values, where="guidance")
    return Bridge(config, exact.guidance_context(prior))


def take(method, prior, step):
    latents, generator = exact.some_latents(prior, BATCH, 1), Generator().manual_seed(0)
    guided = method.gradient(latents, CAMERAS, step=step, generator=generator)
    method.update_estimator(latents, CAMERAS, guided, step=step, generator=generator)
    return guided


def calls_of(prior, step=0, **values):
    with counted_calls(prior.network) as calls:
        take(bridge(prior, **values), prior, Step(step, 10))
    return calls


def test_before_and_after_the_switch_a_step_is_one_call_for_two_texts(prior):
    assert calls_of(prior, 7) == [2 * BATCH]
    assert calls_of(prior, 8) == [2 * BATCH]
    assert calls_of(prior, 8, bridge_scale=7.5) == [3 * BATCH]


def test_the_full_path_is_one_call_for_each_step_up_and_each_pair_down(prior):
    full = {"start": 0, "steps": 3}
    assert calls_of(prior, switch_at=0, full_path=full) == [BATCH] * 3 + [2 * BATCH] * 3
    learned = calls_of(prior, switch_at=0, full_path=full, source="estimator")
    assert learned == [BATCH] * 3 + [BATCH, BATCH] * 3 + [BATCH]  # the last one trains


def test_with_a_learned_source_and_a_guided_target_it_is_vsd(folder):
    """Its texts, its training and its gradient, while the estimator learns."""
    learning = {"learning_rate": 1e-2, "camera_dropout": 0.0}
    found = []
    for name in ("bridge", "vsd"):
        prior = tiny_prior(folder)
        with torch.random.fork_rng():
            torch.manual_seed(0)  # the adapter's first weights
            if name == "vsd":
                config = parse_options(VSDOptions, {"estimator": learning}, where="")
                method = VSD(config, exact.guidance_context(prior))
            else:
                method = bridge(
                    prior,
                    switch_at=0,
                    source="estimator",
                    bridge_scale=7.5,
                    bridge_weighting="sigma-squared",
                    estimator=learning,
                )
        generator = Generator().manual_seed(0)
        for index in range(4):
            latents, step = exact.some_latents(prior, BATCH, index), Step(index, 10)
            guided = method.gradient(latents, CAMERAS, step=step, generator=generator)
            method.update_estimator(latents, CAMERAS, guided, step=step, generator=generator)
        found.append(guided.gradient)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def raw(prior, noised, texts):
    """ε(x_t, text) for each view, by the bare UNet."""
    states = prior.encode_text(texts).tensors["text"]
    with torch.no_grad():
        return prior.network(noised.noisy, noised.t, encoder_hidden_states=states).sample


def views(text):
    return [f"{text}, front view", f"{text}, back view"]


@pytest.mark.parametrize("preset", ["released", "released-2d"])
def test_the_released_first_stage_is_sds_as_the_code_computes_it(prior, preset):
    """(1 - ᾱ)·[ε(neg) + s·(ε(tgt) - ε(neg)) - ε], s = 100 for "p, ." in 3-D, 40 for "p" in 2-D."""
    guided = take(bridge(prior, preset=preset), prior, Step(0, 10))
    noised = guided.observed.noised
    text, scale = {"released": ("a red bear, .", 100), "released-2d": ("a red bear", 40)}[preset]
    negative, positive = raw(prior, noised, ["", ""]), raw(prior, noised, views(text))
    guided_noise = negative + scale * (positive - negative)
    expected = variance(prior, noised) * (guided_noise - noised.noise)
    torch.testing.assert_close(guided.gradient, expected, rtol=1e-3, atol=1e-4)


def test_the_released_second_stage_in_3d_has_no_weight(prior):
    """1·(ε("p, ., view") - ε("p, oversaturated, …, malformed, view"))."""
    guided = take(bridge(prior, preset="released"), prior, Step(8, 10))
    noised = guided.observed.noised
    expected = raw(prior, noised, views("a red bear, .")) - raw(
        prior, noised, views(f"a red bear, {ARTIFACTS}")
    )
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(guided.gradient, expected, rtol=1e-4, atol=1e-5)


def test_the_released_second_stage_in_2d_praises_the_target(prior):
    """(1 - ᾱ)·40·(ε("p, detailed high resolution, high quality, sharp") - ε("p, …, malformed"))."""
    guided = take(bridge(prior, preset="released-2d"), prior, Step(5, 10))
    noised = guided.observed.noised
    praised = "a red bear, detailed high resolution, high quality, sharp"
    difference = raw(prior, noised, views(praised)) - raw(
        prior, noised, views(f"a red bear, {ARTIFACTS}")
    )
    expected = 40 * variance(prior, noised) * difference
    torch.testing.assert_close(guided.gradient, expected, rtol=1e-3, atol=1e-4)


def variance(prior, noised):
    return (1 - prior.schedule.alphas[noised.t].square()).float().view(-1, 1, 1, 1)
