"""The renders themselves as the estimator of a diffusion model's method."""

import pytest
import torch
from torch import Generator

pytest.importorskip("diffusers")

from lora_world import load
from sd_core.estimator import EstimatorOptions
from sd_core.noising import draw
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.tiny_pipelines import counted_calls, save_tiny_pipeline

CAMERAS = exact.some_cameras(2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "sd1", "sd1")


def learner(prior):
    return prior.new_estimator(view_conditioned=True, options=EstimatorOptions())


def test_without_a_camera_it_is_the_score_of_the_last_renders_and_with_one_the_drawn_noise(folder):
    prior = load(folder, estimator={"kind": "renders", "memory": 4})
    estimator, generator = learner(prior), Generator().manual_seed(0)
    text = prior.encode_text(["a red bear"] * 2)
    renders = [0.1 * exact.some_latents(prior, 2, seed) for seed in range(4)]
    with counted_calls(prior.network) as calls:
        for index, some in enumerate(renders):
            noised = draw(prior.schedule, some, torch.tensor([900, 990]), generator)
            pair = estimator.predict_noise_pair(noised, text, CAMERAS, generator=generator)
            told = estimator.fit(
                noised, text, CAMERAS, predicted=None, step=Step(index, 4), generator=generator
            )
            assert told == {}
    assert calls == []  # the network is not asked
    assert torch.equal(pair.at_camera, noised.noise) and pair.observed == {}

    bank = torch.cat([renders[3], renders[2], renders[1]]).flatten(1).double()  # four, and its own
    for place, t in enumerate((900, 990)):
        alpha, sigma = (float(each[t]) for each in (prior.schedule.alphas, prior.schedule.sigmas))
        x = noised.noisy[place].flatten().double()
        weights = (-(x - alpha * bank).square().sum(dim=1) / (2 * sigma**2)).softmax(dim=0)
        expected = (x - alpha * (weights @ bank)) / sigma
        torch.testing.assert_close(
            pair.camera_free[place].flatten().double(), expected, rtol=1e-4, atol=1e-4
        )
        assert 0.05 < float(weights.max()) < 0.95  # a mixture, not one of them


def test_its_renders_are_in_its_checkpoint(folder):
    prior = load(folder, estimator={"kind": "renders", "memory": 2})
    first, second = learner(prior), learner(prior)
    text, generator = prior.encode_text(["a red bear"] * 2), Generator().manual_seed(0)
    noised = draw(prior.schedule, exact.some_latents(prior, 2), torch.tensor([900, 990]), generator)
    first.fit(noised, text, CAMERAS, predicted=None, step=Step(0, 1), generator=generator)
    other = draw(prior.schedule, exact.some_latents(prior, 2, 1), noised.t, generator)
    before = second.predict_noise(other, text, None)
    second.load_state_dict(first.state_dict())
    after = second.predict_noise(other, text, None)
    assert torch.equal(after, first.predict_noise(other, text, None))
    assert not torch.equal(after, before)
