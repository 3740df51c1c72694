"""The built-ins keep the contracts; and the contracts notice what breaks them."""

import pytest
import torch
from torch import Generator

from sd_core.baselines.mix import Mix, MixOptions
from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.estimator import EstimatorOptions
from sd_core.guidance import GuidanceContext, Guided
from sd_core.metric import AbstractMetric
from sd_core.priors.image_bank import ImageBankPrior
from sd_core.renderers.affine import Affine, AffineOptions
from sd_core.residual import Prediction
from sd_core.testing import exact
from sd_core.testing.contract import weakened_promises
from sd_core.testing.contracts import (
    EstimatorContract,
    GuidanceContract,
    MetricContract,
    PriorContract,
    RendererContract,
)


class TestSDS(GuidanceContract):
    def make(self, context):
        return SDS(SDSOptions(), context)


class TestVSD(GuidanceContract):
    def make(self, context):
        return VSD(VSDOptions(), context)


class TestMix(GuidanceContract):
    def make(self, context):
        parts = {
            "sds": lambda: SDS(SDSOptions(), context),
            "vsd": lambda: VSD(VSDOptions(), context),
        }
        finding = GuidanceContext(context.prior, context.prompt, lambda name, _: parts[name]())
        return Mix(MixOptions(source="vsd"), finding)


class TestAffine(RendererContract):
    latent_shape = (2, 1, 1)

    def make(self, context):
        return Affine(AffineOptions(), context)


class TestGaussianMixture(PriorContract):
    def make(self):
        return exact.mixture_prior(channels=3, height=2, width=2)


class TestImageBank(PriorContract):
    def make(self):
        images = torch.rand(6, 3, 4, 4, generator=Generator().manual_seed(3))
        return ImageBankPrior(images, [[self.prompts[i % 2]] for i in range(6)])


class TestEmpiricalEstimator(EstimatorContract):
    def make(self, prior):
        return prior.new_estimator(view_conditioned=True, options=EstimatorOptions())


class MeanBrightness(AbstractMetric):
    def __init__(self):
        self.reset()

    def update(self, images, prompt, cameras):
        self.views += [float(image.mean()) for image in images]

    def compute(self):
        return {"brightness": sum(self.views) / len(self.views)}

    def reset(self):
        self.views = []


class TestMeanBrightness(MetricContract):
    def make(self):
        return MeanBrightness()


class _Broken(SDS):
    """SDS with one promise broken at a time."""

    def __init__(self, fault, context):
        super().__init__(SDSOptions(), context)
        self.fault = fault
        self.register_buffer("calls", torch.zeros(()))

    def gradient(self, latents, cameras, *, step, generator):
        if self.fault == "writes latents":
            latents.mul_(1.1)
        if self.fault == "global randomness":
            torch.rand(1)
        if self.fault == "counts its calls":
            self.calls += 1
        guided = super().gradient(latents, cameras, step=step, generator=generator)
        if self.fault == "mixes samples":
            return Guided(guided.gradient.cumsum(dim=0), guided.t)
        if self.fault == "own randomness":
            noise = torch.randn(latents.shape, generator=Generator().manual_seed(id(guided) % 97))
            return Guided(guided.gradient + noise, guided.t)
        return guided


FAULTS = {
    "writes latents": "test_the_latents_stay_untouched",
    "global randomness": "test_global_random_state_stays_untouched",
    "counts its calls": "test_the_gradient_changes_no_state",
    "mixes samples": "test_batch_order_only_permutes_the_result",
}


@pytest.mark.parametrize(("fault", "promise"), FAULTS.items())
def test_a_broken_promise_is_noticed(fault, promise):
    prior = exact.mixture_prior(channels=3, height=2, width=2)
    broken = _Broken(fault, exact.guidance_context(prior))
    with pytest.raises(AssertionError):
        getattr(GuidanceContract(), promise)(broken, prior)


def test_memory_outside_the_state_dict_is_noticed():
    class Forgetful(SDS):
        offset = 0.0

        def source(self, noised, cameras, *, step, generator):
            return Prediction(noised.noise + self.offset)

        def learn_source(self, seen, cameras, *, step, generator):
            self.offset += 1.0
            return {}

    class Checked(GuidanceContract):
        def make(self, context):
            return Forgetful(SDSOptions(), context)

    prior = exact.mixture_prior(channels=3, height=2, width=2)
    contract = Checked()
    with pytest.raises(AssertionError):
        contract.test_its_state_dict_is_its_whole_memory(
            contract.make(exact.guidance_context(prior)), prior
        )


def test_a_promise_overridden_in_silence_fails():
    class Quiet(GuidanceContract):
        def test_the_latents_stay_untouched(self):
            """Nothing to see here."""

    assert weakened_promises(Quiet) == ["test_the_latents_stay_untouched"]
    with pytest.raises(AssertionError, match="overrides test_the_latents_stay_untouched"):
        Quiet().test_the_contract_is_whole()


def test_a_promise_set_to_none_fails():
    class Removed(GuidanceContract):
        test_the_latents_stay_untouched = None

    assert weakened_promises(Removed) == ["test_the_latents_stay_untouched"]


def test_a_promise_given_up_with_a_reason_passes():
    class Honest(GuidanceContract):
        @pytest.mark.xfail(reason="normalises over the batch, as the paper does")
        def test_batch_order_only_permutes_the_result(self):
            raise AssertionError

    assert weakened_promises(Honest) == []
