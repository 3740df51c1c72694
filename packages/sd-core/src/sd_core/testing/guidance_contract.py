"""What every method of score distillation promises."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from sd_core.guidance import AbstractGuidance, GuidanceContext, Guided
from sd_core.prior import AbstractPrior
from sd_core.testing import exact
from sd_core.testing.contract import BATCH, STEP, Contract, assert_equal_states


class PermutedDraws(TorchFunctionMode):
    """While active, random draws with a row for each sample come in another order of rows."""

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = list(order)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        drawn = func in (torch.randn, torch.rand, torch.randint, torch.normal)
        if drawn and result.ndim and len(result) == len(self.order):
            return result[self.order]
        return result


class GuidanceContract(Contract):
    """What every method promises."""

    def make(self, context: GuidanceContext) -> AbstractGuidance:
        """The method under test, new. Override this."""
        raise NotImplementedError

    @pytest.fixture
    def prior(self) -> AbstractPrior:
        """The world; override it for a method that needs another one."""
        return exact.mixture_prior(channels=3, height=2, width=2)

    @pytest.fixture
    def guidance(self, prior: AbstractPrior) -> AbstractGuidance:
        return self.make(exact.guidance_context(prior))

    def test_the_gradient_has_the_shape_of_the_latents_and_no_graph(
        self, guidance: AbstractGuidance, prior: AbstractPrior
    ) -> None:
        latents = exact.some_latents(prior, BATCH)
        guided = _gradient(guidance, latents)
        assert guided.gradient.shape == latents.shape
        assert guided.gradient.dtype == latents.dtype
        assert not guided.gradient.requires_grad
        assert guided.gradient.isfinite().all()
        assert guided.t.shape == (BATCH,)
        logs = guided.logs
        assert {name: type(logs[name]) for name in logs} == dict.fromkeys(logs, float)

    def test_equal_generators_give_equal_bits(
        self, guidance: AbstractGuidance, prior: AbstractPrior
    ) -> None:
        latents = exact.some_latents(prior, BATCH)
        first, second = (_gradient(guidance, latents).gradient for _ in range(2))
        assert torch.equal(first, second)

    def test_batch_order_only_permutes_the_result(
        self, guidance: AbstractGuidance, prior: AbstractPrior
    ) -> None:
        latents = exact.some_latents(prior, BATCH)
        order = [3, 0, 4, 1, 2]
        straight = _gradient(guidance, latents).gradient
        with PermutedDraws(order):
            shuffled = _gradient(guidance, latents, order).gradient
        torch.testing.assert_close(shuffled, straight[order], rtol=1e-4, atol=1e-5)

    def test_the_latents_stay_untouched(
        self, guidance: AbstractGuidance, prior: AbstractPrior
    ) -> None:
        latents = exact.some_latents(prior, BATCH)
        before = latents.clone()
        _one_step(guidance, latents)
        assert torch.equal(latents, before)
        assert latents.grad is None

    def test_the_prior_stays_untouched(
        self, guidance: AbstractGuidance, prior: AbstractPrior
    ) -> None:
        latents = exact.some_latents(prior, BATCH)
        t = torch.full((BATCH,), len(prior.schedule) // 2, device=prior.device)
        condition = prior.encode_text([exact.PROMPT] * BATCH)
        before = prior.predict_noise(latents, t, condition)
        _one_step(guidance, latents)
        assert torch.equal(prior.predict_noise(latents, t, condition), before)

    def test_global_random_state_stays_untouched(
        self, guidance: AbstractGuidance, prior: AbstractPrior
    ) -> None:
        latents = exact.some_latents(prior, BATCH)
        before = torch.get_rng_state()
        _one_step(guidance, latents)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_gradient_changes_no_state(
        self, guidance: AbstractGuidance, prior: AbstractPrior
    ) -> None:
        before = deepcopy(guidance.state_dict())
        _gradient(guidance, exact.some_latents(prior, BATCH))
        assert_equal_states(guidance.state_dict(), before)

    def test_its_state_dict_is_its_whole_memory(
        self, guidance: AbstractGuidance, prior: AbstractPrior
    ) -> None:
        """A new object with the state of a used one goes on as the used one does."""
        for seed in range(3):
            _one_step(guidance, exact.some_latents(prior, BATCH, seed))
        fresh = self.make(exact.guidance_context(prior))
        fresh.load_state_dict(deepcopy(guidance.state_dict()))
        for seed in range(3, 5):
            latents = exact.some_latents(prior, BATCH, seed)
            used_up, continued = _one_step(guidance, latents), _one_step(fresh, latents)
            assert torch.equal(used_up.gradient, continued.gradient)
        assert_equal_states(fresh.state_dict(), guidance.state_dict())

    def test_a_batch_of_one_works(self, guidance: AbstractGuidance, prior: AbstractPrior) -> None:
        guided = _one_step(guidance, exact.some_latents(prior, 1))
        assert guided.gradient.isfinite().all()


def _gradient(
    guidance: AbstractGuidance, latents: Tensor, order: Sequence[int] | None = None
) -> Guided:
    cameras = exact.some_cameras(len(latents), latents.device)
    if order is not None:
        latents, cameras = latents[list(order)], cameras.select(list(order))
    generator = Generator(latents.device).manual_seed(11)
    return guidance.gradient(latents, cameras, step=STEP, generator=generator)


def _one_step(guidance: AbstractGuidance, latents: Tensor) -> Guided:
    cameras = exact.some_cameras(len(latents), latents.device)
    generator = Generator(latents.device).manual_seed(11)
    guided = guidance.gradient(latents, cameras, step=STEP, generator=generator)
    guidance.update_estimator(latents, cameras, guided, step=STEP, generator=generator)
    return guided
