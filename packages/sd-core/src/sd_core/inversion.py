"""DDIM inversion: the noise that the prior itself would denoise to the given latents.

Shared by JSD, ISM, SDI and the full-path bridge.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sd_core.noising import Noised, NoiseSchedule
from sd_core.parameterisation import clean_from_noise, noise_from_clean
from sd_core.shapes import Latents, Timesteps


class Level(NamedTuple):
    """One noise level for each sample: α and σ as [b 1 1 1]."""

    alpha: Tensor
    sigma: Tensor


def level_at(schedule: NoiseSchedule, t: Timesteps, like: Tensor) -> Level:
    """(α_t, σ_t), with the dtype and the device of `like`."""
    return Level(schedule.alpha(t, like), schedule.sigma(t, like))


def ddim_step(noisy: Latents, noise: Latents, *, start: Level, end: Level) -> Latents:
    """x_b = α_b·x̂0 + σ_b·ε̂, with x̂0 = (x_a − σ_a·ε̂)/α_a. Either direction; a = b changes nothing.

    The same ε̂ undoes it. α_a > 0: no step leaves pure noise of a rectified flow.
    """
    clean = clean_from_noise(noisy, noise, alpha=start.alpha, sigma=start.sigma)
    return end.alpha * clean + end.sigma * noise


def hop_variance(*, start: Level, end: Level) -> Tensor:
    """V = (σ_a²/σ_b²)·(σ_b² − (α_b·σ_a/α_a)²), from a cleaner a to a noisier b, as [b 1 1 1].

    With α² + σ² = 1 it is ((1 − ᾱ_a)/(1 − ᾱ_b))·(1 − ᾱ_b/ᾱ_a), SDI's and JSD's released code.
    0 when leaving clean latents (σ_a = 0), and when a = b.
    """
    carried = end.alpha * start.sigma / start.alpha
    fresh = (end.sigma**2 - carried**2).clamp(min=0)
    variance = (start.sigma / end.sigma) ** 2 * fresh
    # Where a hop stays on its level, rounding would leave a little.
    return torch.where(end.sigma == start.sigma, 0.0, variance)


def inversion_grid(t: Timesteps, steps: int) -> Tensor:
    """[steps + 1, b]: each sample's own levels 0 ... t, evenly spaced, rounded to whole indices."""
    hops = torch.arange(steps + 1, device=t.device).unsqueeze(1)
    return (2 * hops * t + steps) // (2 * steps)


def ddim_invert(
    latents: Latents,
    *,
    t: Timesteps,
    steps: int,
    schedule: NoiseSchedule,
    predict_noise: Callable[[Latents, Timesteps], Latents],
    generator: torch.Generator | None = None,
    eta: float = 0.0,
) -> Noised:
    """From clean latents to level t of each sample: x ← α_b·x̂0 + σ_b·ε̂ + η·√V·N(0, I), per hop.

    The network is asked at the level that a hop leaves: for hop k it sees x and grid[k − 1]. The
    first hop leaves the clean latents themselves (α = 1, σ = 0), for which a network has no time;
    it is asked at grid[0] = 0, the cleanest that it knows. There are always `steps` calls; where
    t < steps some hops stay on their level.

    Given back: the latents as `clean`, the inverted ones as `noisy`, and `noise` by
    ε = (x_t − α·x0)/σ, so that noisy = α·clean + σ·noise holds as it does for drawn noise.
    η = 0 is deterministic; with η > 0 noise is added on top at every hop, without taking its share
    from ε̂, as SDI's released code does. Gradients are neither recorded nor blocked here.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1")
    if eta > 0 and generator is None:
        raise ValueError(f"eta is {eta}, so a generator is needed")
    grid = inversion_grid(t, steps)
    ones = torch.ones_like(latents[:, :1, :1, :1])
    noisy, start = latents, Level(ones, torch.zeros_like(ones))
    for leaving, reaching in pairwise(grid):
        end = level_at(schedule, reaching, latents)
        noisy = ddim_step(noisy, predict_noise(noisy, leaving), start=start, end=end)
        if eta > 0:
            fresh = torch.randn(
                latents.shape, generator=generator, device=latents.device, dtype=latents.dtype
            )
            noisy = noisy + eta * hop_variance(start=start, end=end).sqrt() * fresh
        start = end
    noise = noise_from_clean(noisy, latents, alpha=start.alpha, sigma=start.sigma)
    return Noised(clean=latents, noise=noise, t=t, noisy=noisy)
