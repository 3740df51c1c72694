"""The diffusion model's training: times, weights, dropped texts, and a loss that falls."""

import pytest
import torch
from torch import Generator

from sd_core.noising import NoiseSchedule
from sd_toybox.model.networks import TINY
from sd_toybox.model.tokenizer import new_tokenizer, token_rows
from sd_toybox.train.diffusion import DiffusionTask, min_snr_weight, stratified_times
from sd_toybox.train.plan import LATENT_STD, MIN_SNR_GAMMA, TEXT_DROPOUT, Phase
from sd_toybox.train.task import TrainingState, training_step

PHASE = Phase(steps=16, batch=8, rate=1e-2, warm_up=2)


@pytest.fixture
def task():
    tokens = token_rows(new_tokenizer(), ["a red bear", "a blue bus"] * 8 + [""])
    latents = torch.ones(16, 4, 16, 16)
    latents[1::2] = -1
    return DiffusionTask(latents, tokens, PHASE, TINY, seed=0)


def test_the_loss_falls(task):
    state = TrainingState(task)
    losses = [training_step(task, state, 0)["loss"] for _ in range(PHASE.steps)]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_both_networks_learn_and_the_mean_of_both_is_kept(task):
    before = {name: value.clone() for name, value in task.networks.state_dict().items()}
    state = TrainingState(task)
    for _ in range(3):
        training_step(task, state, 0)
    changed = [
        name for name, value in task.networks.state_dict().items() if not value.equal(before[name])
    ]
    assert {name.split(".")[0] for name in changed} == {"unet", "text_encoder"}
    assert len(state.state_dict()["mean"]) == len(list(task.networks.parameters()))


def test_a_tenth_of_the_texts_is_the_empty_one(task, monkeypatch):
    read = []
    forward = task.text_encoder.forward
    monkeypatch.setattr(
        task.text_encoder, "forward", lambda tokens: (read.append(tokens), forward(tokens))[1]
    )
    for seed in range(25):
        task.losses(0, torch.arange(16), Generator().manual_seed(seed))
    tokens = torch.cat(read)
    empty = (tokens == task._tokens[-1]).all(1).float().mean()
    spread = (TEXT_DROPOUT * (1 - TEXT_DROPOUT) / len(tokens)) ** 0.5
    assert abs(float(empty) - TEXT_DROPOUT) < 4 * spread


def test_rows_keep_their_own_latents_and_texts(task, monkeypatch):
    """A network that answers the noise itself has no loss."""
    seen = {}

    def answer(noisy, t, encoder_hidden_states):
        alpha, sigma = (f(t, noisy) for f in (task._schedule.alpha, task._schedule.sigma))
        clean = torch.where(seen["red"], 1.0, -1.0)[:, None, None, None]
        return type("Output", (), {"sample": (noisy - alpha * clean) / sigma})

    monkeypatch.setattr(task.unet, "forward", answer)
    rows = torch.tensor([0, 3, 5, 6, 8])
    seen["red"] = rows % 2 == 0
    losses = task.losses(0, rows, Generator().manual_seed(0))
    assert float(losses["loss"]) < 1e-6


def test_the_times_of_a_batch_cover_the_schedule_and_each_is_uniform():
    generator = Generator().manual_seed(0)
    times = torch.stack([stratified_times(8, 1000, generator) for _ in range(2000)])
    assert torch.equal(times // 125, torch.arange(8).expand(2000, 8))
    assert times.min() == 0 and times.max() == 999
    shares = (times % 125).flatten().bincount(minlength=125) / times.numel()
    assert (shares - 1 / 125).abs().max() < 5 * (1 / 125 / times.numel()) ** 0.5


def test_the_weight_is_that_of_a_bounded_signal_to_noise_ratio():
    schedule = NoiseSchedule.scaled_linear()
    t = torch.arange(1000)
    weight = min_snr_weight(schedule, t).double()
    # ε-loss times SNR is the loss of x0, which Hang et al. bound: w·SNR = min(SNR, γ).
    snr = (LATENT_STD * schedule.alphas / schedule.sigmas) ** 2
    torch.testing.assert_close(weight * snr, snr.clamp_max(MIN_SNR_GAMMA), rtol=1e-5, atol=1e-7)
    assert float(weight[-1]) == 1.0 and float(weight[0]) < 0.02
