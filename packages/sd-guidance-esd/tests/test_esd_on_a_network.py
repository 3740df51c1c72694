"""ESD on a tiny Stable Diffusion: what it asks of the network, and what was released."""

from copy import deepcopy

import pytest
import torch
from torch import Generator

pytest.importorskip("diffusers")

from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.config import parse_options
from sd_core.estimator import EstimatorOptions
from sd_core.guidance import GuidanceContext
from sd_core.prior import AbstractPrior
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.contracts import GuidanceContract
from sd_core.testing.tiny_pipelines import counted_calls, save_tiny_pipeline, tiny_prior
from sd_guidance_esd.esd import ESD, ESDOptions

BATCH = 2
CAMERAS = exact.some_cameras(BATCH)
LEARNING = {"learning_rate": 1e-2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "sd1", "sd1")


@pytest.fixture
def prior(folder):
    return tiny_prior(folder)


class TestContract(GuidanceContract):
    """With the defaults, whose pair of scores draws who learns without a camera."""

    @pytest.fixture
    def prior(self, folder) -> AbstractPrior:
        return tiny_prior(folder)

    def make(self, context: GuidanceContext) -> ESD:
        return ESD(ESDOptions(entropy_weight=0.25), context)


def esd(prior, **values):
    values.setdefault("estimator", LEARNING)
    config = parse_options(ESDOptions, values, where="guidance")
    return ESD(config, exact.guidance_context(prior))


def take(method, prior, steps):
    """Some steps of the estimator at unmoving renders; gives the last gradient."""
    generator = Generator().manual_seed(0)
    for index in range(steps):
        step, latents = Step(index, 10), exact.some_latents(prior, BATCH, index)
        guided = method.gradient(latents, CAMERAS, step=step, generator=generator)
        method.update_estimator(latents, CAMERAS, guided, step=step, generator=generator)
    return guided


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_zero_entropy_is_vsd_to_the_bit_while_the_estimator_learns(folder, preset):
    found = []
    for name in ("esd", "vsd"):
        prior = tiny_prior(folder)
        with torch.random.fork_rng():
            torch.manual_seed(0)  # the adapter's first weights
            method = esd(prior, preset=preset, entropy_weight=0)
            if name == "vsd":
                torch.manual_seed(0)
                options = VSDOptions(
                    estimator=method.config.estimator, timesteps=method.config.timesteps
                )
                method = VSD(options, exact.guidance_context(prior))
        found.append(take(method, prior, 4).gradient)
    assert torch.equal(*found)


def test_a_step_is_three_calls_whether_the_estimator_trains_at_the_steps_noise_or_its_own(prior):
    with counted_calls(prior.network) as calls:
        take(esd(prior), prior, 1)
    # The prior with and without text; the half of the estimator's pair that trains it; the other.
    assert calls == [2 * BATCH, BATCH, BATCH]
    with counted_calls(prior.network) as calls:
        take(esd(prior, estimator={"shared_noise": False}), prior, 1)
    # The prior; both scores; the training at another t and noise.
    assert calls == [2 * BATCH, 2 * BATCH, BATCH]
    with counted_calls(prior.network) as calls:
        take(esd(prior, entropy_weight=0, estimator={"camera_dropout": 0}), prior, 1)
    assert calls == [2 * BATCH, BATCH]


def test_a_share_of_the_samples_trains_without_its_camera(prior):
    """p_∅ = 1: the camera's MLP, which starts at 0, never moves; p_∅ = 0: it does."""
    for dropout, moves in ((1, False), (0, True)):
        method = esd(prior, estimator={**LEARNING, "camera_dropout": dropout, "weight_decay": 0})
        take(method, prior, 2)
        assert bool(method.estimator.camera_condition.mlp[2].weight.any()) == moves


def test_the_camera_free_score_is_the_estimators_without_a_camera_and_with_its_text(prior):
    method = esd(prior, entropy_weight=1)
    guided = take(method, prior, 3)
    noised = guided.observed.noised
    text = prior.encode_text([exact.PROMPT] * BATCH)
    fresh = esd(prior, entropy_weight=1)
    before = fresh.estimator.predict_noise(noised, text, None)
    torch.testing.assert_close(before, prior.predict_noise(noised.noisy, noised.t, text))
    seen = method.gradient(
        noised.clean, CAMERAS, step=Step(0, 10), generator=Generator().manual_seed(5)
    )
    again = seen.observed.noised
    target = method.target(again, CAMERAS, step=Step(0, 10), generator=Generator())
    source = method.estimator.predict_noise(again, text, None).detach()
    sigma = prior.schedule.sigma(again.t, source)
    torch.testing.assert_close(seen.gradient, sigma**2 * (target.noise - source))


def test_released_computes_what_its_instructions_for_threestudio_do_where_its_null_adds_0(prior):
    """g = (1 - ᾱ)·(ε̂_p - [ε_φ(0) + s_φ·(ε_φ(c) - ε_φ(0))]) with s_φ = 0.5, from bare UNet calls.

    ε̂_p = ε(neg) + 7.5·(ε(view's text) - ε(neg)), ε_φ reads the plain prompt. The LoRA is merged
    into the weights of a copy, and the camera's term W₂·SiLU(W₁·c + b₁) + b₂ is added to its time
    embedding. The published null is a zero camera sent through this, ours no camera: the same where
    the biases are 0, as here.
    """
    unet = deepcopy(prior.network)
    method = esd(prior, preset="released")
    take(method, prior, 3)
    state = method.estimator
    mlp = state.camera_condition.mlp
    with torch.no_grad():
        mlp[0].bias.zero_()
        mlp[2].bias.zero_()
    latents = exact.some_latents(prior, BATCH, 9)
    guided = method.gradient(
        latents, CAMERAS, step=Step(0, 10), generator=Generator().manual_seed(3)
    )
    noised = guided.observed.noised

    def texts(*prompts):
        return prior.encode_text(list(prompts)).tensors["text"]

    def asked(network, text, term=None):
        handle = network.time_embedding.register_forward_hook(
            lambda module, inputs, output: output if term is None else output + term
        )
        with torch.no_grad():
            found = network(noised.noisy, noised.t, encoder_hidden_states=text).sample
        handle.remove()
        return found

    negative = asked(unet, texts("", ""))
    positive = asked(unet, texts(f"{exact.PROMPT}, front view", f"{exact.PROMPT}, back view"))
    merged = deepcopy(unet)
    for path, update in state.adapter.updates.items():
        weight = merged.get_submodule(path.replace("/", ".")).weight
        with torch.no_grad():
            weight += update["B"].weight @ update["A"].weight
    plain = texts(exact.PROMPT, exact.PROMPT)
    pose = CAMERAS.camera_to_world.flatten(1)
    silu = torch.nn.functional.silu
    term = silu(pose @ mlp[0].weight.T) @ mlp[2].weight.T
    null = silu(torch.zeros_like(pose) @ mlp[0].weight.T) @ mlp[2].weight.T
    without, at_camera = asked(merged, plain, null), asked(merged, plain, term.detach())
    variance = (1 - prior.schedule.alphas[noised.t].square()).float().view(-1, 1, 1, 1)
    expected = variance * (
        negative + 7.5 * (positive - negative) - (without + 0.5 * (at_camera - without))
    )
    assert not torch.allclose(without, at_camera, atol=1e-4)
    torch.testing.assert_close(guided.gradient, expected, rtol=1e-4, atol=1e-5)


def test_released_trains_at_draws_of_its_own_and_the_paper_at_the_steps(prior):
    assert esd(prior).estimator.learning == EstimatorOptions(
        learning_rate=1e-2, camera_dropout=0.5, shared_noise=True
    )
    released = esd(prior, preset="released").estimator.learning
    assert not released.shared_noise and released.camera_dropout == 0.1
