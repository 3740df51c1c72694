"""The LoRA estimator learns, is saved, and may have a second model as its base."""

import json
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

pytest.importorskip("diffusers")

from lora_world import (
    QUICK,
    SHARED,
    Folders,
    ask,
    fit,
    frozen,
    learner,
    load,
    some_condition,
    some_noised,
)
from sd_core.checkpoint import CheckpointLabel, load_checkpoint, save_checkpoint
from sd_core.errors import ConfigError, NonFiniteGradientError
from sd_core.estimator import EstimatorOptions
from sd_core.noising import Noised, draw
from sd_core.parameterisation import flow_from_noise, velocity_from_noise, velocity_target
from sd_core.prior import AbstractPrior
from sd_core.priors.diffusion.diffusion_prior import StableDiffusionPrior
from sd_core.priors.diffusion.lora import LoraEstimator, LoraOptions
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.contract import assert_equal_states
from sd_core.testing.tiny_pipelines import Family


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def prior(folders: Folders) -> StableDiffusionPrior:
    return load(folders["sd1"])


# Learning


@pytest.mark.parametrize("family", ["sd1", "sd2-v"])
def test_the_loss_is_in_what_the_network_predicts(folders: Folders, family: Family) -> None:
    prior = load(folders[family])
    noised, schedule = some_noised(prior), prior.schedule
    output = prior.predict_output(noised.noisy, noised.t, some_condition(prior))
    target = noised.noise
    if family == "sd2-v":
        alpha, sigma = (f(noised.t, noised.noisy) for f in (schedule.alpha, schedule.sigma))
        target = velocity_target(noised.clean, noised.noise, alpha=alpha, sigma=sigma)
    expected = float((output - target).square().mean())
    assert fit(learner(prior, SHARED), prior) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "output_from_noise"),
    [("v_prediction", velocity_from_noise), ("flow", flow_from_noise)],
)
def test_an_error_in_noise_is_scaled_to_one_in_the_output(
    prior: StableDiffusionPrior, kind: str, output_from_noise: Callable[..., Tensor]
) -> None:
    estimator, noised = learner(prior), some_noised(prior)
    prior.prediction_type = kind
    at = {
        "alpha": prior.schedule.alpha(noised.t, noised.noisy),
        "sigma": prior.schedule.sigma(noised.t, noised.noisy),
    }
    moved = output_from_noise(noised.noisy, noised.noise + 1, **at)
    error = moved - output_from_noise(noised.noisy, noised.noise, **at)
    scale = estimator._error_scale(noised).expand_as(error)
    torch.testing.assert_close(scale, error, rtol=1e-4, atol=1e-4)


def test_the_step_size_warms_up(prior: StableDiffusionPrior) -> None:
    """Adam's first step is the step size times the sign of the gradient."""
    largest = []
    for warm_up in (0, 40):  # at step index 3 the fourth of 40 steps is taken
        options = EstimatorOptions(learning_rate=1e-2, weight_decay=0, warm_up_steps=warm_up)
        estimator = learner(prior, options)
        fit(estimator, prior)
        updates = [p for n, p in estimator.named_parameters() if n.endswith(".B.weight")]
        largest.append(max(float(p.detach().abs().max()) for p in updates))
    assert largest == pytest.approx([1e-2, 1e-3], rel=1e-3)


def test_equal_generators_train_alike_and_global_random_state_stays(
    prior: StableDiffusionPrior,
) -> None:
    options = QUICK.model_copy(update={"camera_dropout": 0.5, "updates_per_step": 2})
    one, two = learner(prior, options), learner(prior, options)
    two.load_state_dict(one.state_dict())
    before = torch.get_rng_state()
    assert fit(one, prior, 2) == fit(two, prior, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert_equal_states(one.state_dict(), two.state_dict())


def test_a_gradient_that_is_not_finite_is_an_error(prior: StableDiffusionPrior) -> None:
    estimator = learner(prior, SHARED)
    before = [p.clone() for p in estimator.parameters()]
    with pytest.raises(NonFiniteGradientError, match=r"not finite at step 3 \(loss nan\)"):
        fit(estimator, prior, predicted=ask(estimator, prior) * torch.nan)
    for parameter, old in zip(estimator.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


def test_in_half_precision_the_adapter_stays_in_float32(folders: Folders) -> None:
    prior = load(folders["sd1"], dtype="bf16")
    before, estimator = frozen(prior), learner(prior)
    fit(estimator, prior, 2)
    assert {p.dtype for p in estimator.parameters()} == {torch.float32}
    assert torch.equal(frozen(prior), before)
    assert ask(estimator, prior).dtype == torch.float32
    assert not torch.equal(ask(estimator, prior), before)


FIXED_PICTURE = LoraOptions(
    rank=16,
    # Attention alone can't turn eight random channels into ε (the loss stays at 0.8 of its start):
    # a network that knows nothing has to learn in its convolutions.
    targets=("conv_in", "conv_out", "conv1", "conv2", "conv_shortcut"),
)


@pytest.mark.parametrize(
    ("family", "steps", "batch"),
    # v is dominated by ε at small t, where the picture must be known to within σ: it takes longer.
    [("sd1", 180, 12), pytest.param("sd2-v", 400, 32, marks=pytest.mark.slow)],
)
def test_renders_of_one_picture_teach_its_exact_score(
    folders: Folders, family: Family, steps: int, batch: int
) -> None:
    """A point mass at x0 has ε = (x_t - α·x0)/σ: the drawn noise itself."""
    prior = load(folders[family])
    options = EstimatorOptions(learning_rate=2e-2)
    estimator = LoraEstimator(prior, FIXED_PICTURE, options, view_conditioned=True)
    generator = Generator().manual_seed(0)
    condition, cameras = some_condition(prior, batch), exact.some_cameras(batch)
    picture = fixed_latents(prior).expand(batch, -1, -1, -1)

    def noised_at(t: int) -> Noised:
        return draw(prior.schedule, picture, torch.full((batch,), t), generator)

    losses = []
    for index in range(steps):
        logs = estimator.fit(
            noised_at(0),  # its t and ε are not used: the estimator draws its own
            condition,
            cameras,
            predicted=None,
            step=Step(index, steps),
            generator=generator,
        )
        losses.append(logs["estimator_loss"])
    assert sum(losses[-20:]) / 20 < losses[0] / 10
    for seen_from in (cameras, None):
        noised = noised_at(500)
        with torch.no_grad():
            noise = estimator.predict_noise(noised, condition, seen_from)
        agreement = torch.cosine_similarity(noise.flatten(1), noised.noise.flatten(1))
        assert agreement.min() > 0.9


def fixed_latents(prior: AbstractPrior) -> Tensor:
    """Ramps to the right and down, a chequer of four, and a plain channel."""
    _, height, width = prior.latent_shape
    down, right = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    return torch.stack([right, down, (right * down).sign(), torch.ones_like(down)])[None]


# Saving


def test_a_loaded_estimator_goes_on_to_the_bit(
    prior: StableDiffusionPrior, folders: Folders, tmp_path: Path
) -> None:
    options = QUICK.model_copy(update={"camera_dropout": 0.5})
    used = learner(prior, options)
    fit(used, prior, 3)
    label = CheckpointLabel("experiment", 0, 3)
    path = save_checkpoint(tmp_path, label, {"estimator": used.state_dict()})
    _, state = load_checkpoint(path, experiment="experiment")

    other_prior = load(folders["sd1"])
    learner(other_prior)  # so that the next one's adapter has another name
    fresh = learner(other_prior, options)
    fresh.load_state_dict(state["estimator"])
    assert torch.equal(ask(fresh, other_prior), ask(used, prior))
    assert fit(fresh, other_prior, 2, seed=7) == fit(used, prior, 2, seed=7)
    assert_equal_states(fresh.state_dict(), used.state_dict())


def test_a_new_estimator_can_be_saved_too(prior: StableDiffusionPrior, tmp_path: Path) -> None:
    """Before the first step the optimiser has no moments yet."""
    state = learner(prior).state_dict()
    path = save_checkpoint(tmp_path, CheckpointLabel("experiment", 0, 0), state)
    _, loaded = load_checkpoint(path, experiment="experiment")
    fresh = learner(prior)
    fresh.load_state_dict(loaded)
    assert_equal_states(fresh.state_dict(), state)


def test_loading_copies_what_it_is_given(prior: StableDiffusionPrior) -> None:
    one, two = learner(prior), learner(prior)
    fit(one, prior)
    two.load_state_dict(one.state_dict())
    before = deepcopy(two.state_dict())
    fit(one, prior)
    assert_equal_states(two.state_dict(), before)


# A second model as base


def test_a_second_model_can_be_the_base(prior: StableDiffusionPrior, folders: Folders) -> None:
    """ProlificDreamer: an ε-model as prior, a v-model under the estimator, the same latents."""
    base = load(folders["sd2-v"])
    own_layers = {name for name, _ in prior.network.named_modules()}
    before = frozen(prior)
    estimator = learner(prior, SHARED, base_model=str(folders["sd2-v"]))
    assert torch.equal(ask(estimator, prior), frozen(base))
    assert not torch.allclose(frozen(base), before, atol=1e-2)
    assert {name for name, _ in prior.network.named_modules()} == own_layers
    noise = ask(estimator, prior)
    first = fit(estimator, prior, predicted=noise)
    assert fit(estimator, prior, 4) < first
    assert torch.equal(frozen(prior), before)
    assert_the_base_is_frozen(estimator, frozen(base))


def assert_the_base_is_frozen(estimator: LoraEstimator, expected: Tensor) -> None:
    assert isinstance(estimator.base, StableDiffusionPrior)
    assert torch.equal(frozen(estimator.base), expected)


def test_a_base_with_another_noise_schedule_is_refused(
    prior: StableDiffusionPrior, folders: Folders, tmp_path: Path
) -> None:
    other = shutil.copytree(folders["sd2-v"], tmp_path / "other")
    path = other / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**config, "beta_end": 0.02}), "utf-8")
    with pytest.raises(ConfigError, match="has another noise schedule than the prior"):
        learner(prior, base_model=str(other))


def test_a_base_with_other_latents_is_refused(
    prior: StableDiffusionPrior, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load(folders["sd1"])
    base.latent_shape = (16, 8, 8)
    find: Callable[[str], StableDiffusionPrior] = lambda model: base  # noqa: E731
    monkeypatch.setattr(prior, "other_model", find)
    with pytest.raises(ConfigError, match="has latents of 16 channels, the prior of 4"):
        learner(prior, base_model="flux")


def test_a_base_that_is_not_found_is_told_by_its_own_option(prior: StableDiffusionPrior) -> None:
    told = r"^prior\.estimator\.base_model is 'sd21-bse', which .*sd21"
    with pytest.raises(ConfigError, match=told):
        learner(prior, base_model="sd21-bse")


def test_targets_that_match_no_layer_are_refused(prior: StableDiffusionPrior) -> None:
    with pytest.raises(ConfigError, match=r"^prior\.estimator\.targets: .*query"):
        learner(prior, targets=("query",))
    assert torch.equal(ask(learner(prior), prior), frozen(prior))
