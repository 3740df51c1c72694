"""The LoRA estimator on tiny pipelines: the frozen model keeps its bits, the graphs are right."""

import gc
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

pytest.importorskip("diffusers")

from lora_world import (
    BATCH,
    CAMERAS,
    QUICK,
    SHARED,
    Folders,
    ask,
    fit,
    frozen,
    learner,
    load,
    slopes,
    some_condition,
    some_noised,
)
from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.estimator import EstimatorOptions, NoisePair
from sd_core.guidance import GuidanceContext
from sd_core.prior import AbstractPrior
from sd_core.priors.diffusion.diffusion_prior import StableDiffusionPrior
from sd_core.priors.diffusion.lora import LoraEstimator
from sd_core.testing.contract import assert_equal_states
from sd_core.testing.contracts import EstimatorContract, GuidanceContract
from sd_core.testing.tiny_pipelines import FAMILIES, Family, counted_calls


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def prior(folders: Folders) -> StableDiffusionPrior:
    return load(folders["sd1"])


class LoraContract(EstimatorContract):
    family: Family = "sd1"

    def make(self, prior: AbstractPrior) -> LoraEstimator:
        assert isinstance(prior, StableDiffusionPrior)
        return learner(prior)

    @pytest.fixture
    def prior(self, folders: Folders) -> AbstractPrior:
        return load(folders[self.family])


class TestLoraOnStableDiffusion1(LoraContract):
    pass


class TestLoraOnStableDiffusion2(LoraContract):
    family = "sd2-v"


class TestLoraOnStableDiffusionXL(LoraContract):
    family = "sdxl"


class VSDContract(GuidanceContract):
    family: Family = "sd1"
    learning: EstimatorOptions = QUICK

    def make(self, context: GuidanceContext) -> VSD:
        return VSD(VSDOptions(estimator=self.learning), context)

    @pytest.fixture
    def prior(self, folders: Folders) -> AbstractPrior:
        return load(folders[self.family])


class TestVSDOnStableDiffusion1(VSDContract):
    pass


class TestVSDOnStableDiffusion2(VSDContract):
    family = "sd2-v"


class TestVSDThatSharesItsForwardPass(VSDContract):
    learning = SHARED


# The start


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("camera", [True, False])
def test_it_starts_as_the_prior(folders: Folders, family: Family, camera: bool) -> None:
    prior = load(folders[family])
    assert torch.equal(ask(learner(prior), prior, camera=camera), frozen(prior))


def test_the_published_start_differs_where_there_is_a_camera(prior: StableDiffusionPrior) -> None:
    estimator = learner(prior, camera_start="random")
    assert not torch.allclose(ask(estimator, prior), frozen(prior), atol=1e-4)
    assert torch.equal(ask(estimator, prior, camera=False), frozen(prior))


def test_without_view_conditioning_cameras_say_nothing(prior: StableDiffusionPrior) -> None:
    estimator = learner(prior, view_conditioned=False)
    fit(estimator, prior, 2)
    assert torch.equal(ask(estimator, prior), ask(estimator, prior, camera=False))
    assert not any("camera" in name for name in estimator.state_dict())


def test_alpha_scales_the_update(prior: StableDiffusionPrior) -> None:
    one, two = learner(prior, alpha=None), learner(prior, alpha=8.0)
    assert [next(iter(e.adapter._layers)).scaling[e.adapter.name] for e in (one, two)] == [1, 2]


# The frozen model


@pytest.mark.parametrize("family", FAMILIES)
def test_the_frozen_prediction_keeps_its_bits(folders: Folders, family: Family) -> None:
    prior = load(folders[family])
    before = frozen(prior)
    estimator = learner(prior)
    assert torch.equal(frozen(prior), before), "injected"
    fit(estimator, prior, 3)
    assert torch.equal(frozen(prior), before), "trained"
    assert not torch.allclose(ask(estimator, prior), before, atol=1e-4)
    assert torch.equal(frozen(prior), before), "switched on and off"
    with pytest.raises(KeyError), estimator.adapter.on():
        raise KeyError
    assert torch.equal(frozen(prior), before), "left by an error"
    learner(prior).load_state_dict(estimator.state_dict())
    assert torch.equal(frozen(prior), before), "loaded"


def test_the_frozen_weights_stay_frozen_and_out_of_its_state(prior: StableDiffusionPrior) -> None:
    weights = sum(p.numel() for p in prior.network.parameters())
    estimator = learner(prior)
    own = {id(p) for p in estimator.parameters()}
    assert all(p.requires_grad == (id(p) in own) for p in prior.network.parameters())
    assert sum(p.numel() for p in estimator.parameters()) < weights / 5
    names = [name for name in estimator.state_dict() if name != "_extra_state"]
    assert all(name.endswith((".A.weight", ".B.weight")) or ".mlp." in name for name in names)


def test_the_input_gradient_of_the_frozen_model_keeps_its_bits(prior: StableDiffusionPrior) -> None:
    """USD differentiates through the frozen network, adapter attached and switched off."""

    def input_gradient() -> Tensor:
        noised = some_noised(prior)
        noisy = noised.noisy.requires_grad_(True)
        noise = prior.predict_noise(noisy, noised.t, some_condition(prior))
        return torch.autograd.grad(noise.square().sum(), noisy)[0]

    before = input_gradient()
    estimator = learner(prior)
    fit(estimator, prior, 2)
    assert before.abs().sum() > 0
    assert torch.equal(input_gradient(), before)


def test_the_estimator_is_differentiable_in_its_input(prior: StableDiffusionPrior) -> None:
    noised = some_noised(prior)
    noised.noisy.requires_grad_(True)
    noise = learner(prior).predict_noise(noised, some_condition(prior), CAMERAS)
    (slope,) = torch.autograd.grad(noise.sum(), noised.noisy)
    assert slope.abs().sum() > 0


def test_an_adapter_of_the_user_stays_on(prior: StableDiffusionPrior) -> None:
    """A style that was loaded before belongs to the prior, and to the estimator's start."""
    from peft import LoraConfig, inject_adapter_in_model

    plain = frozen(prior)
    style = LoraConfig(target_modules=["to_q", "to_v"], init_lora_weights=False)
    inject_adapter_in_model(style, prior.network, "style")
    prior.network.requires_grad_(False)
    styled = frozen(prior)
    estimator = learner(prior)
    assert not torch.equal(styled, plain)
    assert torch.equal(ask(estimator, prior), styled)
    fit(estimator, prior)
    assert torch.equal(frozen(prior), styled)


# Switching between a forward pass and its backward pass


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_graph_outlives_other_calls(folders: Folders, checkpointing: bool) -> None:
    prior = load(folders["sd1"], gradient_checkpointing=checkpointing)
    estimator, other = learner(prior, SHARED), learner(prior, SHARED)
    fit(estimator, prior)  # B is no longer zero, so A has a gradient too
    noise = ask(estimator, prior)
    frozen(prior)
    fit(other, prior)
    late = slopes(estimator, noise)
    frozen(prior)
    assert all(slope.abs().sum() > 0 for slope in late)
    for slope, fresh in zip(late, slopes(estimator, ask(estimator, prior)), strict=True):
        assert torch.equal(slope, fresh)


def test_checkpointing_changes_no_gradient(folders: Folders) -> None:
    """Parts of the forward pass run again within backward, and see the adapter again."""
    states = []
    for checkpointing in (False, True):
        prior = load(folders["sd1"], gradient_checkpointing=checkpointing)
        assert prior.network.is_gradient_checkpointing == checkpointing
        torch.manual_seed(1)
        estimator = learner(prior, SHARED)
        fit(estimator, prior, 2)
        noise = ask(estimator, prior)
        frozen(prior)
        fit(estimator, prior, predicted=noise)
        states.append(estimator.state_dict())
    torch.testing.assert_close(states[1], states[0], rtol=1e-4, atol=1e-6)


def test_the_forward_pass_of_the_score_trains_as_a_fresh_one_does(
    prior: StableDiffusionPrior,
) -> None:
    one = learner(prior, SHARED)
    fit(one, prior, 2)
    two = learner(prior, SHARED)
    two.load_state_dict(one.state_dict())
    noise = ask(one, prior)
    frozen(prior)
    with counted_calls(prior.network) as calls:
        fit(one, prior, predicted=noise)
        assert calls == []
        fit(two, prior, predicted=None)
        assert calls == [BATCH]
    assert_equal_states(one.state_dict(), two.state_dict())


@pytest.mark.parametrize(
    ("change", "calls"),
    [
        ({}, []),
        ({"updates_per_step": 3}, [BATCH, BATCH]),
        ({"shared_noise": False}, [BATCH]),
        ({"camera_dropout": 1.0}, [BATCH]),
    ],
)
def test_a_prediction_is_used_only_where_it_fits(
    prior: StableDiffusionPrior, change: dict[str, Any], calls: list[int]
) -> None:
    estimator = learner(prior, SHARED.model_copy(update=change))
    noise = ask(estimator, prior)
    with counted_calls(prior.network) as counted:
        fit(estimator, prior, predicted=noise)
    assert counted == calls


def test_a_prediction_nobody_goes_back_through_has_no_graph(prior: StableDiffusionPrior) -> None:
    assert not ask(learner(prior, QUICK), prior).requires_grad
    assert ask(learner(prior, SHARED), prior).requires_grad
    # It would be of all cameras, and some samples will learn without theirs.
    dropping = SHARED.model_copy(update={"camera_dropout": 0.1})
    assert not ask(learner(prior, dropping), prior).requires_grad


def test_two_estimators_on_one_network_do_not_disturb_each_other(
    prior: StableDiffusionPrior,
) -> None:
    first = learner(prior)
    fit(first, prior, 2)
    before, state = ask(first, prior), deepcopy(first.state_dict())
    second = learner(prior, rank=2)
    assert torch.equal(ask(second, prior), frozen(prior))
    fit(second, prior, 2)
    assert torch.equal(ask(first, prior), before)
    assert_equal_states(first.state_dict(), state)
    assert not torch.equal(ask(second, prior), before)


def test_an_estimator_leaves_the_network_when_it_is_gone(prior: StableDiffusionPrior) -> None:
    def left() -> list[str]:
        gc.collect()
        return [name for name, _ in prior.network.named_parameters() if "lora" in name]

    def hooks() -> int:
        return len(prior.network.time_embedding._forward_hooks)

    before = frozen(prior)
    first, second = learner(prior), learner(prior, rank=2)
    fit(first, prior, 2), fit(second, prior, 2)
    told, both = ask(second, prior), len(left())
    assert hooks() == 2
    del first
    assert len(left()) == both // 2 and hooks() == 1
    assert torch.equal(ask(second, prior), told)
    del second
    assert left() == [] and hooks() == 0
    assert torch.equal(frozen(prior), before)
    assert torch.equal(ask(learner(prior), prior), before)  # and there is room for another


# Cameras


def ask_pair(estimator: LoraEstimator, prior: StableDiffusionPrior, seed: int = 0) -> NoisePair:
    noised, condition = some_noised(prior), some_condition(prior)
    generator = Generator().manual_seed(seed)
    return estimator.predict_noise_pair(noised, condition, CAMERAS, generator=generator)


HALF = SHARED.model_copy(update={"camera_dropout": 0.5})


@pytest.mark.parametrize("learning", [QUICK, SHARED, HALF], ids=["own", "shared", "half"])
def test_the_pair_is_both_scores(prior: StableDiffusionPrior, learning: EstimatorOptions) -> None:
    estimator = learner(prior, learning, camera_start="random")
    fit(estimator, prior, 2)
    pairs = [ask_pair(estimator, prior, seed) for seed in range(8)]
    shown = [each.observed.get("shown", torch.ones(1)).float().mean() for each in pairs]
    mixed = [pair for pair, share in zip(pairs, shown, strict=True) if 0 < share < 1]
    assert bool(mixed) == (learning is HALF)
    pair = (mixed or pairs)[0]
    torch.testing.assert_close(pair.camera_free, ask(estimator, prior, camera=False).detach())
    torch.testing.assert_close(pair.at_camera, ask(estimator, prior).detach())
    assert not torch.allclose(pair.camera_free, pair.at_camera)


def test_the_pair_is_one_call_or_two_of_which_one_saves_the_training_its_own(
    prior: StableDiffusionPrior,
) -> None:
    with counted_calls(prior.network) as calls:
        pair = ask_pair(learner(prior), prior)
        with torch.no_grad():
            ask_pair(learner(prior, SHARED), prior)
    assert calls == [2 * BATCH, 2 * BATCH] and pair.observed == {}
    assert not pair.at_camera.requires_grad  # nobody would go back through it
    one, two = learner(prior, HALF), learner(prior, HALF)
    two.load_state_dict(one.state_dict())
    pairs = [ask_pair(one, prior, seed).observed for seed in range(8)]
    mixed = next(each for each in pairs if 0 < each["shown"].sum() < BATCH)
    with counted_calls(prior.network) as calls:
        ask_pair(one, prior)
        fit(one, prior, **mixed)
    assert calls == [BATCH, BATCH]
    fit(two, prior, shown=mixed["shown"])  # a pass of its own, with the same cameras
    assert_equal_states(one.state_dict(), two.state_dict())


def test_without_cameras_in_training_the_mlp_does_not_move(prior: StableDiffusionPrior) -> None:
    options = EstimatorOptions(learning_rate=1e-2, camera_dropout=1, weight_decay=0)
    estimator = learner(prior, options, camera_start="random")
    assert estimator.camera_condition is not None
    before = [p.clone() for p in estimator.camera_condition.parameters()]
    fit(estimator, prior, 2)
    for parameter, old in zip(estimator.camera_condition.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


def test_cameras_are_dropped_sample_by_sample(prior: StableDiffusionPrior) -> None:
    estimator = learner(prior, QUICK.model_copy(update={"camera_dropout": 0.3}))
    noised = some_noised(prior, 4000)
    shown = estimator._draw_shown(noised, Generator().manual_seed(0))
    assert shown.float().mean() == pytest.approx(0.7, abs=0.03)
