"""The built-ins keep the contracts; and the contracts notice what breaks them."""

import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
import torch
from torch import Generator

from sd_core.baselines.mix import Mix, MixOptions
from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.estimator import EstimatorOptions
from sd_core.guidance import GuidanceContext, Guided
from sd_core.metric import AbstractMetric
from sd_core.noising import Noised, add_noise
from sd_core.priors.empirical_estimator import EmpiricalEstimator
from sd_core.priors.image_bank import ImageBankPrior
from sd_core.renderer import Rendering
from sd_core.renderers.affine import Affine, AffineOptions
from sd_core.residual import Prediction
from sd_core.testing import CONTRACT_MODULES, exact
from sd_core.testing.contract import LATE_STEP, weakened_promises
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


class _BrokenMetric(AbstractMetric):
    """The mean brightness of all objects, with one promise broken at a time."""

    scope = "method"

    def __init__(self, fault):
        self.fault = fault
        self.reset()

    def update(self, images, prompt, cameras):
        if self.fault == "writes pictures":
            images.mul_(2).sub_(1)
        if self.fault == "asks for cameras that nobody knows":
            assert cameras.direction.ndim
        self.views += [float(image.mean()) for image in images]

    def end_object(self, name):
        self.finished += self.views
        self.views = []

    def drop_object(self):
        self.views = []
        if self.fault == "forgets the others":
            self.reset()

    def compute(self):
        return {"brightness": sum(self.finished) / max(1, len(self.finished))}

    def reset(self):
        if self.fault != "remembers" or not hasattr(self, "views"):
            self.views, self.finished = [], []


METRIC_FAULTS = {
    "writes pictures": "test_the_pictures_stay_untouched",
    "asks for cameras that nobody knows": (
        "test_pictures_whose_cameras_nobody_knows_are_judged_or_refused"
    ),
    "forgets the others": "test_an_object_that_was_refused_leaves_nothing_behind",
    "remembers": "test_reset_forgets_everything",
}


@pytest.mark.parametrize(("fault", "promise"), METRIC_FAULTS.items())
def test_a_broken_promise_of_a_metric_is_noticed(fault, promise):
    class Checked(MetricContract):
        objects = 2

        def make(self):
            return _BrokenMetric(fault)

    contract = Checked()
    with pytest.raises((AssertionError, AttributeError)):
        getattr(contract, promise)(torch.rand(4, 3, 8, 8, generator=Generator().manual_seed(0)))


class _BrokenScene(Affine):
    """Points in the plane with one promise broken at a time."""

    def __init__(self, fault, context):
        super().__init__(AffineOptions(), context)
        self.fault = fault
        self.forgotten = torch.nn.Parameter(torch.zeros(2))
        self.forgotten.requires_grad_(fault == "forgets a parameter")

    def parameter_groups(self, learning_rate):
        own = [p for name, p in self.named_parameters() if name != "forgotten"]
        return [{"params": own, "lr": learning_rate}]

    def forward(self, cameras):
        told = super().forward(cameras)
        if self.fault == "has no slope":
            return Rendering(told.images.detach() + 0 * told.images)
        return told


@pytest.mark.parametrize("fault", ["forgets a parameter", "has no slope"])
def test_a_scene_that_cannot_be_trained_is_noticed(fault):
    class Checked(RendererContract):
        latent_shape = (2, 1, 1)

        def make(self, context):
            return _BrokenScene(fault, context)

    contract = Checked()
    with pytest.raises(AssertionError):
        contract.test_every_parameter_gets_a_gradient(contract._fresh())


class _Broken(SDS):
    """SDS with one promise broken at a time."""

    def __init__(self, fault, context):
        super().__init__(SDSOptions(), context)
        self.fault = fault
        self.draws = 0
        self.register_buffer("calls", torch.zeros(()))

    def gradient(self, latents, cameras, *, step, generator):
        if self.fault == "writes latents":
            latents.mul_(1.1)
        if self.fault == "global randomness":
            torch.rand(1)
        if self.fault == "counts its calls":
            self.calls += 1
        guided = super().gradient(latents, cameras, step=step, generator=generator)
        if self.fault == "divides by the batch":
            return Guided(guided.gradient / len(latents), guided.t)
        if self.fault == "is lost at last" and step.index > 10:
            return Guided(guided.gradient * float("nan"), guided.t)
        if self.fault == "mixes samples":
            return Guided(guided.gradient.cumsum(dim=0), guided.t)
        if self.fault == "own randomness":  # another draw at each call, whatever it is given
            self.draws += 1
            noise = torch.randn(latents.shape, generator=Generator().manual_seed(self.draws))
            return Guided(guided.gradient + noise, guided.t)
        return guided


FAULTS = {
    "writes latents": "test_the_latents_stay_untouched",
    "global randomness": "test_global_random_state_stays_untouched",
    "counts its calls": "test_the_gradient_changes_no_state",
    "divides by the batch": "test_a_sample_has_the_same_gradient_in_every_batch",
    "is lost at last": "test_the_gradient_has_the_shape_of_the_latents_and_no_graph",
    "mixes samples": "test_batch_order_only_permutes_the_result",
    "own randomness": "test_equal_generators_give_equal_bits",
}


@pytest.mark.parametrize(("fault", "promise"), FAULTS.items())
def test_a_broken_promise_is_noticed(fault, promise):
    prior = exact.mixture_prior(channels=3, height=2, width=2)
    broken = _Broken(fault, exact.guidance_context(prior))
    test = getattr(GuidanceContract(), promise)
    step = {"step": LATE_STEP} if "step" in signature(test).parameters else {}
    with pytest.raises(AssertionError):
        test(broken, prior, **step)


class InPlaceDraws(SDS):
    """Draws its noise into a tensor that is there, and a coin for each sample."""

    def noised(self, latents, cameras, *, step, generator):
        t = self.times(latents, step=step, generator=generator)
        noise = torch.empty_like(latents).normal_(generator=generator)
        half = torch.full((len(latents), 1, 1, 1), 0.5)
        noise = noise * (1 + torch.bernoulli(half, generator=generator))
        return Noised(latents, noise, t, add_noise(self.prior.schedule, latents, noise, t))


class TestInPlaceDraws(GuidanceContract):
    def make(self, context):
        return InPlaceDraws(SDSOptions(), context)


class _BrokenEstimator(EmpiricalEstimator):
    """The exact estimator with one promise broken at a time, in one of its two methods."""

    def __init__(self, fault, prior):
        size = prior.latent_shape
        super().__init__(
            schedule=prior.schedule, latent_shape=size, memory=8, view_conditioned=True
        )
        self.fault = fault

    def predict_noise(self, noised, condition, cameras):
        self.commit("predicting", noised)
        noise = super().predict_noise(noised, condition, cameras)
        mixes = self.fault == f"mixes samples {'without' if cameras is None else 'with'} cameras"
        return noise.cumsum(dim=0) if mixes else noise

    def fit(self, noised, condition, cameras, **told):
        self.commit("learning", noised)
        if self.fault == "does not learn":
            return {}
        return super().fit(noised, condition, cameras, **told)

    def commit(self, when, noised):
        if self.fault == f"writes latents {when}":
            noised.noisy.mul_(1.1)
        if self.fault == f"global randomness {when}":
            torch.rand(1)


ESTIMATOR_FAULTS = {
    "does not learn": "test_it_learns",
    "writes latents predicting": "test_the_latents_stay_untouched",
    "writes latents learning": "test_the_latents_stay_untouched",
    "global randomness predicting": "test_global_random_state_stays_untouched",
    "global randomness learning": "test_global_random_state_stays_untouched",
    "mixes samples with cameras": "test_batch_order_only_permutes_the_predictions",
    "mixes samples without cameras": "test_batch_order_only_permutes_the_predictions",
}


@pytest.mark.parametrize(("fault", "promise"), ESTIMATOR_FAULTS.items())
def test_a_broken_promise_of_an_estimator_is_noticed(fault, promise):
    prior = exact.mixture_prior(channels=3, height=2, width=2)
    with pytest.raises(AssertionError):
        getattr(EstimatorContract(), promise)(_BrokenEstimator(fault, prior), prior)


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


BROKEN_METHOD = """
from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.guidance import Guided
from sd_core.testing.contracts import GuidanceContract


class OneTooMany(SDS):
    def gradient(self, latents, cameras, *, step, generator):
        guided = super().gradient(latents, cameras, step=step, generator=generator)
        return Guided(guided.gradient, guided.t.repeat(2), {"loss": 7})


class TestOneTooMany(GuidanceContract):
    def make(self, context):
        return OneTooMany(SDSOptions(), context)
"""


def test_a_failure_shows_its_values_to_authors_of_plugins(tmp_path):
    (tmp_path / "test_it.py").write_text(BROKEN_METHOD)
    ask = ["-q", "-W", "error", "-p", "no:cacheprovider", "-k", "has_the_shape", "."]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *ask], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "assert torch.Size([10]) == (5,)" in done.stdout


def test_all_contracts_show_their_values():
    folder = Path(exact.__file__).parent
    with_asserts = {path.stem for path in folder.glob("*.py") if "    assert " in path.read_text()}
    assert with_asserts == set(CONTRACT_MODULES)


def test_the_exact_worlds_need_no_pytest():
    script = "import sys; sys.modules['pytest'] = None; import sd_core.testing.exact"
    subprocess.run([sys.executable, "-c", script], check=True)
