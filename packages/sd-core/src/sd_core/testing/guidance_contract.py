"""What every method of score distillation promises."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import pytest
import torch
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch
from sd_core.guidance import AbstractGuidance, GuidanceContext, Guided
from sd_core.prior import AbstractPrior
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.contract import BATCH, LATE_STEP, STEP, Contract, assert_equal_states
from sd_core.testing.draws import KNOWN_DRAWS, Again, PermutedDraws, SameForAll


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

    @pytest.fixture(params=[STEP, LATE_STEP], ids=["early", "late"])
    def step(self, request: pytest.FixtureRequest) -> Step:
        """A method may go on otherwise later."""
        step: Step = request.param
        return step

    def test_the_gradient_has_the_shape_of_the_latents_and_no_graph(
        self, guidance: AbstractGuidance, prior: AbstractPrior, step: Step
    ) -> None:
        latents = exact.some_latents(prior, BATCH)
        guided = _gradient(guidance, latents, step=step)
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
        torch.testing.assert_close(
            shuffled, straight[order], rtol=1e-4, atol=1e-5, msg=_of_draws("each sample's draws")
        )

    def test_a_sample_has_the_same_gradient_in_every_batch(
        self, guidance: AbstractGuidance, prior: AbstractPrior
    ) -> None:
        """The loop divides by the batch; a gradient that was divided already is too small."""
        alone = exact.some_latents(prior, 1)
        camera = exact.some_cameras(BATCH, alone.device).select([1])
        together = CameraBatch.concatenate([camera] * BATCH)
        with SameForAll(BATCH) as draws:
            copies = _gradient(guidance, alone.repeat(BATCH, 1, 1, 1), cameras=together).gradient
        with Again(draws.seen):
            expected = _gradient(guidance, alone, cameras=camera).gradient
        torch.testing.assert_close(
            copies, expected.expand_as(copies), rtol=1e-3, atol=1e-5, msg=_of_draws("equal draws")
        )

    def test_the_latents_stay_untouched(
        self, guidance: AbstractGuidance, prior: AbstractPrior, step: Step
    ) -> None:
        latents = exact.some_latents(prior, BATCH)
        before = latents.clone()
        _one_step(guidance, latents, step)
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
        self, guidance: AbstractGuidance, prior: AbstractPrior, step: Step
    ) -> None:
        latents = exact.some_latents(prior, BATCH)
        before = torch.get_rng_state()
        _one_step(guidance, latents, step)
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
    guidance: AbstractGuidance,
    latents: Tensor,
    order: Sequence[int] | None = None,
    *,
    cameras: CameraBatch | None = None,
    step: Step = STEP,
) -> Guided:
    if cameras is None:
        cameras = exact.some_cameras(len(latents), latents.device)
    if order is not None:
        latents, cameras = latents[list(order)], cameras.select(list(order))
    generator = Generator(latents.device).manual_seed(11)
    return guidance.gradient(latents, cameras, step=step, generator=generator)


def _one_step(guidance: AbstractGuidance, latents: Tensor, step: Step = STEP) -> Guided:
    cameras = exact.some_cameras(len(latents), latents.device)
    generator = Generator(latents.device).manual_seed(11)
    guided = guidance.gradient(latents, cameras, step=step, generator=generator)
    guidance.update_estimator(latents, cameras, guided, step=step, generator=generator)
    return guided


def _of_draws(what: str) -> Callable[[str], str]:
    """Explains a difference to an author whose method is right, and draws in another way."""
    return lambda told: (
        f"{told}\n\nThis was with {what}, one row for each sample, by {KNOWN_DRAWS}. If the method "
        "draws otherwise, that may be the difference: draw so, or mark the test with xfail."
    )
