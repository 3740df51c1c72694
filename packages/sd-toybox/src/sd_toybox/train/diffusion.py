"""The UNet and its text encoder: ε of noised latents, for captions of which a tenth is dropped."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from sd_core.noising import NoiseSchedule, draw
from sd_core.shapes import Latents, PerSample, Timesteps
from sd_toybox.model.networks import NetworkSizes, initialised_from, new_text_encoder, new_unet
from sd_toybox.train.plan import EMA_DECAY, LATENT_STD, MIN_SNR_GAMMA, TEXT_DROPOUT, Phase, seed_for
from sd_toybox.train.task import Rows, Scalar, Task

Tokens = Int[Tensor, "samples tokens"]


class DiffusionTask(Task):
    """L = E w(t)·|ε̂(x_t, t, y) - ε|², x_t = α_t·x0 + σ_t·ε, w(t) = min(SNR_t, γ)/SNR_t.

    SNR_t = s²·α_t²/σ_t² with s the latents' standard deviation.

    y is the caption, or the empty text with probability TEXT_DROPOUT (Ho and Salimans 2022).
    """

    name = "diffusion"
    ema_decay = EMA_DECAY

    def __init__(
        self, latents: Latents, tokens: Tokens, phase: Phase, sizes: NetworkSizes, *, seed: int
    ) -> None:
        """The last row of `tokens` is the empty text's."""
        self.phase = phase
        self.samples = len(latents)
        self._latents, self._tokens = latents, tokens
        self._schedule = NoiseSchedule.scaled_linear()
        with initialised_from(seed_for(seed, self.name, "weights")):
            self.unet: Any = new_unet(sizes)
            self.text_encoder: Any = new_text_encoder(sizes)
        self.networks = nn.ModuleDict({"unet": self.unet, "text_encoder": self.text_encoder})

    def losses(self, step: int, rows: Rows, generator: Generator) -> dict[str, Scalar]:
        dropped = torch.rand(len(rows), generator=generator) < TEXT_DROPOUT
        tokens = self._tokens[torch.where(dropped, len(self._tokens) - 1, rows)]
        t = stratified_times(len(rows), len(self._schedule), generator)
        noised = draw(self._schedule, self._latents[rows], t, generator)
        text = self.text_encoder(tokens).last_hidden_state
        predicted = self.unet(noised.noisy, t, encoder_hidden_states=text).sample
        error = (predicted - noised.noise).square().mean((1, 2, 3))
        return {"loss": (min_snr_weight(self._schedule, t) * error).mean(), "error": error.mean()}


def stratified_times(count: int, times: int, generator: Generator) -> Timesteps:
    """floor(T·(i + u_i)/n) for i = 0 .. n - 1: each uniform, and together all of the schedule.

    The mean of a batch's losses then varies less than with independent times.
    """
    uniform = torch.rand(count, generator=generator)
    return ((torch.arange(count) + uniform) * (times / count)).long().clamp_max(times - 1)


def min_snr_weight(schedule: NoiseSchedule, t: Timesteps) -> PerSample:
    """min(SNR, γ)/SNR with SNR = s²·α²/σ²: for ε-prediction, of Hang et al. 2023."""
    ratio: Float[Tensor, " batch"] = schedule.alphas[t] / schedule.sigmas[t]
    snr = (LATENT_STD * ratio).square()
    return (snr.clamp_max(MIN_SNR_GAMMA) / snr).float()
