"""The VAE's training: its loss, and latents that are fit for diffusion."""

from dataclasses import replace

import pytest
import torch
from torch import Generator

from sd_core.noising import NoiseSchedule
from sd_toybox.model.networks import TINY
from sd_toybox.train import autoencoder
from sd_toybox.train.autoencoder import (
    VaeTask,
    crops,
    edges,
    normalised,
    raw_latents,
    rounded,
    signed,
)
from sd_toybox.train.data import draw_labels
from sd_toybox.train.plan import LATENT_STD, Phase
from sd_toybox.train.task import Run, TrainingState, train, training_step
from sd_toybox.world.samples import draw_pictures
from untrained_models import some_pictures, untrained_networks

PHASE = Phase(steps=24, batch=4, rate=5e-3, warm_up=2)


@pytest.fixture(scope="module")
def pictures():
    generator = Generator().manual_seed(0)
    return draw_pictures(draw_labels("world", 16, generator), generator)


def test_the_loss_falls(pictures):
    task = VaeTask(pictures, PHASE, TINY, seed=0)
    state = TrainingState(task)
    losses = [training_step(task, state, 0)["loss"] for _ in range(PHASE.steps)]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_killed_and_started_again_equals_uninterrupted_to_the_bit(pictures, tmp_path):
    phase = replace(PHASE, steps=4)
    found = []
    for stops in ((), (2,)):
        run = Run(tmp_path / str(len(stops)), "f", 0, lambda line: None, save_every_seconds=0.0)
        for stop in stops:
            task = VaeTask(pictures, phase, TINY, seed=0)
            _stop_at(task, stop)
            with pytest.raises(KeyboardInterrupt):
                train(task, run)
        train(task := VaeTask(pictures, phase, TINY, seed=0), run)
        found.append(torch.nn.utils.parameters_to_vector(task.networks.parameters()))
    assert torch.equal(*found)


def test_squares_come_first_and_whole_pictures_last(pictures, monkeypatch):
    task = VaeTask(pictures, replace(PHASE, steps=10), TINY, seed=0)
    sides = []
    encode = task.vae.encode
    monkeypatch.setattr(task.vae, "encode", lambda x: (sides.append(x.shape), encode(x))[1])
    for step in (0, 6, 7, 9):
        task.losses(step, torch.arange(4), Generator().manual_seed(0))
    assert sides == [(4, 3, 32, 32)] * 2 + [(2, 3, 64, 64)] * 2


def test_squares_are_cut_from_anywhere_in_each_picture():
    place = torch.arange(36).reshape(1, 1, 6, 6).expand(400, 3, 6, 6).to(torch.uint8)
    cut = crops(place, 4, Generator().manual_seed(0))
    assert torch.equal(cut[0, 0, 0] - cut[0, 0, 0, 0], torch.arange(4).to(torch.uint8))
    assert set(cut[:, 0, 0, 0].tolist()) == {
        6 * top + left for top in range(3) for left in range(3)
    }


def test_edges_are_the_mean_differences_of_neighbours():
    step = torch.zeros(1, 1, 4, 4)
    step[..., 2:] = 1.0  # 4 of 12 pairs along a row differ, and none down a column
    assert float(edges(step)) == pytest.approx(4 / 12)
    assert float(edges(step.mT)) == pytest.approx(4 / 12)
    assert float(edges(torch.full((2, 3, 4, 4), 0.7))) == 0.0


def test_the_kl_of_a_latent_number_is_that_of_two_gaussians(pictures):
    task = VaeTask(pictures, PHASE, TINY, seed=0)
    rows = torch.arange(4)
    found = task.losses(10**6, rows, Generator().manual_seed(0))["kl"]
    posterior = task.vae.encode(signed(pictures[rows[:2]])).latent_dist
    gaussian = torch.distributions.Normal(posterior.mean, posterior.std)
    expected = torch.distributions.kl_divergence(gaussian, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(found, expected.mean())


def test_normalised_latents_have_their_mean_and_deviation_and_decode_as_before(pictures):
    vae = rounded(untrained_networks()["vae"])
    with torch.no_grad():
        raw = vae.encode(signed(pictures)).latent_dist.mean
        before = vae.decode(raw).sample
        latents = normalised(vae, raw)
        factor = vae.config.scaling_factor
        encoded = vae.encode(signed(pictures)).latent_dist.mean * factor
        after = vae.decode(encoded / factor).sample
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    assert float(latents.std()) == pytest.approx(LATENT_STD, abs=1e-5)
    torch.testing.assert_close(encoded, latents, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_rounded_weights_are_those_of_16_bits():
    vae = rounded(untrained_networks()["vae"])
    for weight in vae.parameters():
        assert weight.dtype == torch.float32 and not weight.requires_grad
        assert torch.equal(weight, weight.half().float())


def test_latents_are_encoded_once(pictures, tmp_path, monkeypatch):
    vae, path = rounded(untrained_networks()["vae"]), tmp_path / "latents.safetensors"
    monkeypatch.setattr(autoencoder, "_ENCODED_AT_ONCE", 7)
    first = raw_latents(vae, pictures, path, lambda line: None)
    with torch.no_grad():
        expected = vae.encode(signed(pictures)).latent_dist.mean
    torch.testing.assert_close(first, expected)
    assert torch.equal(raw_latents(None, pictures, path, lambda line: None), first)


def test_pictures_of_8_bits_are_between_minus_one_and_one():
    ends = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 1, 2)
    assert signed(ends)[0, 0, 0].tolist() == [-1.0, 1.0]
    assert some_pictures(1).max() <= 1


def _stop_at(task, stop):
    losses = task.losses

    def stopping(step, rows, generator):
        if step == stop:
            raise KeyboardInterrupt
        return losses(step, rows, generator)

    task.losses = stopping


@pytest.mark.parametrize("deviation", [1.0, LATENT_STD])
def test_pure_noise_is_evidence_of_small_latents(deviation):
    """Why LATENT_STD is below 1: sampling begins with noise that has nothing of the latents in it.

    The mean over x ~ N(0, I) of log N(x; α·a, σ²I) - log N(x; α·b, σ²I) is
    α²·(‖b‖² - ‖a‖²)/(2σ²). With variances of 1 and 1.4 and 1,024 numbers that is 0.96, and 0.24 at
    half the deviation.
    """
    schedule = NoiseSchedule.scaled_linear()
    alpha, sigma = float(schedule.alphas[-1]), float(schedule.sigmas[-1])
    generator = Generator().manual_seed(0)
    short, long = deviation * torch.randn(2, 1024, generator=generator, dtype=torch.float64)
    short, long = short / short.std() * deviation, long / long.std() * deviation * 1.4**0.5
    noise = torch.randn(4000, 1024, generator=generator, dtype=torch.float64)
    found = [
        torch.distributions.Normal(alpha * latents, sigma).log_prob(noise).sum(1)
        for latents in (short, long)
    ]
    odds = found[0] - found[1]
    error = float(odds.std()) / len(noise) ** 0.5
    assert float(odds.mean()) == pytest.approx(0.96 * deviation**2, abs=4 * error + 0.01)
    assert 4 * error < 0.25 * deviation
