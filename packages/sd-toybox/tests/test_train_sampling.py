"""Sampling: DDIM as diffusers has it, guidance as sd_core has it, and batches that are kept."""

import pytest
import torch

from sd_core.prior import PriorContext
from sd_core.sampling import ddim_sample, sampling_times
from sd_core.text_guidance import classifier_free_guidance
from sd_toybox.model.networks import new_scheduler
from sd_toybox.model.toybox_prior import ToyboxOptions, build
from sd_toybox.train import sampling
from sd_toybox.train.sampling import Sampler


@pytest.fixture(scope="module")
def prior(model_folder):
    return build(ToyboxOptions(folder=str(model_folder)), PriorContext(torch.device("cpu")))


@pytest.fixture
def sampler(prior, tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "SAMPLING_BATCH", 2)
    return Sampler(prior, tmp_path / "samples", 0, 2, lambda line: None)


@pytest.mark.parametrize(
    ("scale", "steps", "spacing"),
    [(1.0, 2, "trailing"), (7.5, 5, "trailing"), (3.0, 20, "leading")],
)
def test_it_is_the_scheduler_of_diffusers(prior, scale, steps, spacing):
    prompts = ["a red bear", "a blue bus, blurry"]
    shipped = new_scheduler()
    scheduler = type(shipped).from_config(shipped.config, timestep_spacing=spacing)
    noise = torch.randn(2, *prior.latent_shape, generator=torch.Generator().manual_seed(0))
    text, nothing = prior.encode_text(prompts), prior.encode_text(["", ""])
    scheduler.set_timesteps(steps)
    assert sampling_times(prior.schedule, steps) == scheduler.timesteps.tolist()
    with torch.no_grad():
        expected = noise
        for t in scheduler.timesteps:
            now = t.expand(2)
            told, plain = (prior.predict_noise(expected, now, each) for each in (text, nothing))
            guided = classifier_free_guidance(plain, told, scale)
            expected = scheduler.step(guided, t, expected, eta=0.0).prev_sample
        found = ddim_sample(prior, noise, prompts, scale=scale, steps=steps)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_pictures_are_kept_and_equal_prompts_give_equal_ones(sampler):
    first = sampler.pictures("some", ["a red bear"] * 3, scale=1.0)
    assert first.shape == (3, 3, 64, 64) and 0 <= first.min() <= first.max() <= 1
    assert len(list(sampler.folder.iterdir())) == 2  # of two and of one
    for path in sampler.folder.iterdir():
        path.touch()
    kept = {path: path.stat().st_mtime_ns for path in sampler.folder.iterdir()}
    assert torch.equal(sampler.pictures("some", ["a red bear"] * 3, scale=1.0), first)
    assert {path: path.stat().st_mtime_ns for path in sampler.folder.iterdir()} == kept
    for path in kept:
        path.unlink()
    assert torch.equal(sampler.pictures("some", ["a red bear"] * 3, scale=1.0), first)


def test_another_prompt_or_scale_is_another_picture_from_the_same_noise(sampler, monkeypatch):
    noises = []
    monkeypatch.setattr(
        sampling, "ddim_sample", lambda prior, noise, *_, **__: (noises.append(noise), noise)[1]
    )
    for prompt, scale in (("a red bear", 1.0), ("a blue bus", 1.0), ("a blue bus", 2.0)):
        sampler.pictures("some", [prompt], scale=scale)
    assert len(noises) == 3 and torch.equal(noises[0], noises[1])
    assert len(list(sampler.folder.iterdir())) == 3
