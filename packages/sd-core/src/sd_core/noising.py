"""The forward process: x_t = α_t·x0 + σ_t·ε, with ε ~ N(0, I).

| letter | name       | meaning                                                      |
|--------|------------|--------------------------------------------------------------|
| x0     | clean      | latents without noise, σ = 0 and α = 1                       |
| ε      | noise      | standard normal, one draw for each element                   |
| x_t    | noisy      | what the network sees                                        |
| t      | t          | index into the schedule: 0 almost clean, len(schedule) − 1 noise |
| α_t    | alphas[t]  | how much of the clean latents is left, decreasing in t       |
| σ_t    | sigmas[t]  | standard deviation of the noise, increasing in t             |

Variance preserving schedules have α² + σ² = 1 and ᾱ = α²; rectified flow has α + σ = 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sd_core.shapes import Latents, Timesteps


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """α_t and σ_t of x_t = α_t·x0 + σ_t·ε for t = 0 ... len − 1, as float64 on the CPU.

    σ_0 > 0, so that ε = (x_t − α·x0)/σ exists at every t; α may fall to 0 at the last t (rectified
    flow, zero terminal SNR), where x0 can no longer be read from x_t and ε.
    """

    alphas: Tensor  # [T] float64
    sigmas: Tensor  # [T] float64

    def __post_init__(self) -> None:
        for name, values in (("alphas", self.alphas), ("sigmas", self.sigmas)):
            if values.ndim != 1 or len(values) == 0:
                raise ValueError(f"{name} has shape {tuple(values.shape)}, expected [T] with T > 0")
            if values.dtype != torch.float64:
                raise ValueError(f"{name} is {values.dtype}, expected torch.float64")
            if not bool(torch.isfinite(values).all()):
                raise ValueError(f"{name} holds a value that is not finite")
        if len(self.alphas) != len(self.sigmas):
            raise ValueError(f"{len(self.alphas)} alphas, but {len(self.sigmas)} sigmas")
        if bool((self.alphas.diff() >= 0).any()) or float(self.alphas[-1]) < 0:
            raise ValueError("alphas must decrease with t and stay at or above 0")
        if bool((self.sigmas.diff() <= 0).any()) or float(self.sigmas[0]) <= 0:
            raise ValueError("sigmas must increase with t and start above 0")

    @classmethod
    def from_alphas_cumprod(cls, values: Sequence[float] | Tensor) -> "NoiseSchedule":
        """α = √ᾱ, σ = √(1 − ᾱ), from ᾱ_t = ∏(1 − β): a diffusers scheduler's `alphas_cumprod`."""
        cumulative = torch.as_tensor(values, dtype=torch.float64, device="cpu")
        return cls(alphas=cumulative.sqrt(), sigmas=(1 - cumulative).sqrt())

    @classmethod
    def scaled_linear(
        cls, steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
    ) -> "NoiseSchedule":
        """√β linear in t. The defaults are the training schedule of Stable Diffusion 1 and 2."""
        roots = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64)
        return cls.from_alphas_cumprod((1 - roots.square()).cumprod(0))

    @classmethod
    def linear(
        cls, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
    ) -> "NoiseSchedule":
        """β linear in t. The defaults are DDPM's (Ho et al. 2020, section 4)."""
        betas = torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)
        return cls.from_alphas_cumprod((1 - betas).cumprod(0))

    @classmethod
    def rectified_flow(cls, steps: int = 1000, shift: float = 1.0) -> "NoiseSchedule":
        """α = 1 − σ, σ = s·u/(1 + (s − 1)·u), u = (t + 1)/T: shift s > 0 as in SD3, eq. 23.

        s = 1 leaves σ = u; s > 1 spends more of the schedule on noise, as large pictures need.
        """
        if shift <= 0:
            raise ValueError(f"shift is {shift}, expected a number above 0")
        uniform = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        sigmas = shift * uniform / (1 + (shift - 1) * uniform)
        return cls(alphas=1 - sigmas, sigmas=sigmas)

    def __len__(self) -> int:
        return len(self.alphas)

    def alpha(self, t: Timesteps, like: Tensor) -> Tensor:
        """α_t as [b 1 1 1], with the dtype and the device of `like`."""
        return _gather(self.alphas, t, like)

    def sigma(self, t: Timesteps, like: Tensor) -> Tensor:
        """σ_t as [b 1 1 1], with the dtype and the device of `like`."""
        return _gather(self.sigmas, t, like)


@dataclass(frozen=True, eq=False)
class Noised:
    """A noised batch, with noisy = α_t·clean + σ_t·noise for each sample."""

    clean: Latents
    noise: Latents
    t: Timesteps
    noisy: Latents

    def __len__(self) -> int:
        return len(self.clean)

    def repeat(self, count: int) -> "Noised":
        """`count` copies of the whole batch, one after the other: undo it by `.chunk(count)`.

        For one batched call of the prior under several conditions (text, negative, null).
        """
        return Noised(
            clean=self.clean.repeat(count, 1, 1, 1),
            noise=self.noise.repeat(count, 1, 1, 1),
            t=self.t.repeat(count),
            noisy=self.noisy.repeat(count, 1, 1, 1),
        )


def add_noise(schedule: NoiseSchedule, clean: Latents, noise: Latents, t: Timesteps) -> Latents:
    """x_t = α_t·x0 + σ_t·ε."""
    return schedule.alpha(t, clean) * clean + schedule.sigma(t, clean) * noise


def draw(
    schedule: NoiseSchedule, clean: Latents, t: Timesteps, generator: torch.Generator
) -> Noised:
    """x_t at the given t, with a fresh ε ~ N(0, I) from `generator`, which is on clean's device."""
    noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
    return Noised(clean=clean, noise=noise, t=t, noisy=add_noise(schedule, clean, noise, t))


def _gather(values: Tensor, t: Timesteps, like: Tensor) -> Tensor:
    # The dtype first, then the device: MPS has no float64. Moving the few kilobytes of a schedule
    # costs less than waiting for t to come back from a GPU.
    return values.to(like.dtype).to(like.device)[t].view(-1, 1, 1, 1)
