"""What every estimator of the rendered distribution promises."""

from copy import deepcopy

import pytest
import torch
from torch import Generator

from sd_core.estimator import AbstractNoiseEstimator
from sd_core.noising import Noised, draw
from sd_core.prior import AbstractPrior
from sd_core.testing import exact
from sd_core.testing.contract import BATCH, STEP, Contract, assert_equal_states

ORDER = [3, 0, 4, 1, 2]


class EstimatorContract(Contract):
    """What every estimator of the rendered distribution promises."""

    def make(self, prior: AbstractPrior) -> AbstractNoiseEstimator:
        """The estimator under test, new. Override this."""
        raise NotImplementedError

    @pytest.fixture
    def prior(self) -> AbstractPrior:
        return exact.mixture_prior(channels=3, height=2, width=2)

    @pytest.fixture
    def estimator(self, prior: AbstractPrior) -> AbstractNoiseEstimator:
        return self.make(prior)

    def test_it_predicts_with_and_without_a_camera(
        self, estimator: AbstractNoiseEstimator, prior: AbstractPrior
    ) -> None:
        noised = _draw(prior, BATCH, seed=0)
        condition = prior.encode_text([exact.PROMPT] * BATCH)
        for cameras in (exact.some_cameras(BATCH, prior.device), None):
            noise = estimator.predict_noise(noised, condition, cameras)
            assert noise.shape == noised.noisy.shape
            assert noise.isfinite().all()

    def test_a_pair_is_both_predictions_and_what_it_observed_can_be_learned_from(
        self, estimator: AbstractNoiseEstimator, prior: AbstractPrior
    ) -> None:
        _fit(estimator, prior, times=2)
        noised, cameras = _draw(prior, BATCH, seed=0), exact.some_cameras(BATCH, prior.device)
        condition = prior.encode_text([exact.PROMPT] * BATCH)
        generator = Generator(prior.device).manual_seed(0)
        pair = estimator.predict_noise_pair(noised, condition, cameras, generator=generator)
        for told, seen in ((pair.camera_free, None), (pair.at_camera, cameras)):
            alone = estimator.predict_noise(noised, condition, seen)
            torch.testing.assert_close(told.detach(), alone.detach(), rtol=1e-4, atol=1e-5)
        estimator.fit(
            noised,
            condition,
            cameras,
            predicted=pair.observed.get("predicted"),
            shown=pair.observed.get("shown"),
            step=STEP,
            generator=generator,
        )

    def test_batch_order_only_permutes_the_predictions(
        self, estimator: AbstractNoiseEstimator, prior: AbstractPrior
    ) -> None:
        _fit(estimator, prior, times=2)
        noised, cameras = _draw(prior, BATCH, seed=0), exact.some_cameras(BATCH, prior.device)
        condition = prior.encode_text([exact.PROMPT] * BATCH)
        for seen, shuffled in ((cameras, cameras.select(ORDER)), (None, None)):
            straight = estimator.predict_noise(noised, condition, seen).detach()
            other = estimator.predict_noise(_in_order(noised), condition, shuffled).detach()
            torch.testing.assert_close(other, straight[ORDER], rtol=1e-4, atol=1e-5)

    def test_the_latents_stay_untouched(
        self, estimator: AbstractNoiseEstimator, prior: AbstractPrior
    ) -> None:
        noised = _draw(prior, BATCH, seed=0)
        before = deepcopy(vars(noised))
        condition = prior.encode_text([exact.PROMPT] * BATCH)
        estimator.predict_noise(noised, condition, None)
        _fit(estimator, prior, times=1, noised=noised)
        assert_equal_states(vars(noised), before)
        assert noised.clean.grad is None and noised.noisy.grad is None

    def test_global_random_state_stays_untouched(
        self, estimator: AbstractNoiseEstimator, prior: AbstractPrior
    ) -> None:
        noised, condition = _draw(prior, BATCH, seed=0), prior.encode_text([exact.PROMPT] * BATCH)
        before = torch.get_rng_state()
        estimator.predict_noise(noised, condition, None)
        _fit(estimator, prior, times=1, noised=noised)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_prior_stays_untouched_while_it_learns(
        self, estimator: AbstractNoiseEstimator, prior: AbstractPrior
    ) -> None:
        noised = _draw(prior, 2, seed=5)
        noisy, t = noised.noisy, noised.t
        condition = prior.encode_text([exact.PROMPT] * 2)
        before = prior.predict_noise(noisy, t, condition).detach()
        _fit(estimator, prior, times=2)
        assert torch.equal(prior.predict_noise(noisy, t, condition).detach(), before)

    def test_it_learns(self, estimator: AbstractNoiseEstimator, prior: AbstractPrior) -> None:
        noised, condition = _draw(prior, BATCH, seed=0), prior.encode_text([exact.PROMPT] * BATCH)
        before = estimator.predict_noise(noised, condition, None).detach()
        _fit(estimator, prior, times=2, seed=1)
        after = estimator.predict_noise(noised, condition, None).detach()
        assert not torch.equal(after, before)

    def test_its_state_dict_is_its_whole_memory(
        self, estimator: AbstractNoiseEstimator, prior: AbstractPrior
    ) -> None:
        _fit(estimator, prior, times=2)
        state = deepcopy(estimator.state_dict())
        fresh = self.make(prior)
        fresh.load_state_dict(state)
        for each in (estimator, fresh):
            _fit(each, prior, times=1, seed=9)
        assert_equal_states(fresh.state_dict(), estimator.state_dict())


def _draw(prior: AbstractPrior, count: int, seed: int) -> Noised:
    clean = exact.some_latents(prior, count, seed)
    t = torch.linspace(1, len(prior.schedule) - 2, count).long().to(prior.device)
    return draw(prior.schedule, clean, t, Generator(prior.device).manual_seed(seed))


def _in_order(noised: Noised) -> Noised:
    return Noised(*(each[ORDER] for each in (noised.clean, noised.noise, noised.t, noised.noisy)))


def _fit(
    estimator: AbstractNoiseEstimator,
    prior: AbstractPrior,
    *,
    times: int,
    seed: int = 0,
    noised: Noised | None = None,
) -> None:
    for index in range(times):
        estimator.fit(
            _draw(prior, BATCH, seed + index) if noised is None else noised,
            prior.encode_text([exact.PROMPT] * BATCH),
            exact.some_cameras(BATCH, prior.device),
            predicted=None,
            step=STEP,
            generator=Generator(prior.device).manual_seed(seed + index),
        )
