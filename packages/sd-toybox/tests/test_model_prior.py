"""The prior `toybox`: a Stable Diffusion prior that reads the world's grammar and nothing else."""

import shutil

import pytest
import torch

import sd_toybox
from sd_core.cameras import sheet_cameras
from sd_core.errors import ConfigError
from sd_core.estimator import EstimatorOptions
from sd_core.noising import draw
from sd_core.plugins import load_plugins
from sd_core.prior import PriorContext
from sd_core.priors.diffusion.stable_diffusion import StableDiffusionOptions
from sd_core.priors.diffusion.stable_diffusion import build as build_stable_diffusion
from sd_core.step import Step
from sd_core.testing.contracts import PriorContract
from sd_toybox.model.toybox_prior import ToyboxOptions, build
from untrained_models import save_untrained

CPU = PriorContext(torch.device("cpu"))


@pytest.fixture(scope="module")
def toybox(model_folder):
    return build(ToyboxOptions(folder=str(model_folder)), CPU)


class TestToyboxContract(PriorContract):
    prompts = ("a red bear", "a blue bus, side view")
    picture_size = (64, 64)

    @pytest.fixture
    def prior(self, toybox):
        return toybox


def test_it_predicts_as_the_stable_diffusion_prior_of_its_folder(toybox, model_folder):
    plain = build_stable_diffusion(StableDiffusionOptions(model=str(model_folder)), CPU)
    noisy, t, prompts = torch.randn(2, 4, 16, 16), torch.tensor([5, 700]), ["a red bear", "blurry"]
    ours, theirs = (
        prior.predict_noise(noisy, t, prior.encode_text(prompts)) for prior in (toybox, plain)
    )
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("prompt", ["a red fox", "a red bear riding a bus", "an astronaut"])
def test_what_the_world_never_says_is_refused_with_its_grammar(toybox, prompt):
    with pytest.raises(ConfigError, match=r"not in the toybox.*a COLOUR KIND\[, VIEW\]"):
        toybox.encode_text(["a red bear", prompt])


def test_the_empty_text_and_words_alone_are_read(toybox):
    assert len(toybox.encode_text(["", "blurry, noisy", "A Red BEAR, overhead view"])) == 3


def test_its_estimator_learns_from_the_network_inside(toybox):
    estimator = toybox.new_estimator(view_conditioned=False, options=EstimatorOptions())
    generator = torch.Generator().manual_seed(0)
    noised = draw(toybox.schedule, torch.zeros(2, 4, 16, 16), torch.tensor([5, 700]), generator)
    condition = toybox.encode_text(["a red bear"] * 2)
    before = toybox.predict_noise(noised.noisy, noised.t, condition)
    torch.testing.assert_close(estimator.predict_noise(noised, condition, None), before)
    cameras = sheet_cameras().select([0, 1])
    for index in range(3):
        predicted = estimator.predict_noise(noised, condition, cameras)
        step = Step(index, 3)
        estimator.fit(
            noised, condition, cameras, predicted=predicted, step=step, generator=generator
        )
    assert not torch.allclose(estimator.predict_noise(noised, condition, None), before)
    assert torch.equal(toybox.predict_noise(noised.noisy, noised.t, condition), before)


def test_a_run_folder_names_the_weights_and_no_place(toybox, model_folder, tmp_path):
    moved = shutil.copytree(model_folder, tmp_path / "moved")
    again = build(ToyboxOptions(folder=str(moved)), CPU)
    other = build(ToyboxOptions(folder=str(save_untrained(tmp_path / "other", seed=1))), CPU)
    assert again.identity() == toybox.identity() != other.identity()
    assert toybox.identity()["model"] == "toybox"
    assert str(model_folder) not in " ".join(toybox.identity().values())


def test_missing_weights_are_said_before_anything_is_loaded(tmp_path):
    with pytest.raises(ConfigError, match="no toybox model"):
        build(ToyboxOptions(folder=str(tmp_path / "nowhere")), CPU)


def test_the_prior_is_offered_as_a_plugin():
    plugins = load_plugins(installed=False, extra=[sd_toybox])
    entry = plugins.find("prior", "toybox")
    assert (entry.load_config(), entry.load_build()) == (ToyboxOptions, build)
