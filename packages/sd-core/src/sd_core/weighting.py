"""w(t), the weight of the residual at diffusion time t, by name.

| name                | w    | who uses it                                                 |
|---------------------|------|-------------------------------------------------------------|
| sigma-squared       | σ²   | DreamFusion's 1 − ᾱ: SDS, VSD, ESD, USD, NFSD, ASD on NeRF   |
| uniform             | 1    | DDS, the bridge's second stage in 3-D, CSD's coarse stage   |
| sigma-over-alpha    | σ/α  | ISM, ASD on Gaussians; implicit in SDI's and JSD's code     |
| alpha-over-sigma    | α/σ  | JSD's printed prefactor with w = 1; unbounded as t → 0      |
| alpha-sigma         | α·σ  | JSD's with w = σ²; at most 1/2 where α² + σ² = 1            |
| alpha-sigma-squared | α·σ² | Fantasia3D's √ᾱ·(1 − ᾱ)                                     |
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from sd_core.noising import NoiseSchedule
from sd_core.shapes import Timesteps

Weighting = Literal[
    "sigma-squared",
    "uniform",
    "sigma-over-alpha",
    "alpha-over-sigma",
    "alpha-sigma",
    "alpha-sigma-squared",
]


def sigma_squared(alpha: Tensor, sigma: Tensor) -> Tensor:
    """w = σ²."""
    return sigma**2


def uniform(alpha: Tensor, sigma: Tensor) -> Tensor:
    """w = 1."""
    return torch.ones_like(sigma)


def sigma_over_alpha(alpha: Tensor, sigma: Tensor) -> Tensor:
    """w = σ/α, which makes a residual in ε one in x0. Infinite at α = 0."""
    return sigma / alpha


def alpha_over_sigma(alpha: Tensor, sigma: Tensor) -> Tensor:
    """w = α/σ, the square root of the signal-to-noise ratio."""
    return alpha / sigma


def alpha_sigma(alpha: Tensor, sigma: Tensor) -> Tensor:
    """w = α·σ."""
    return alpha * sigma


def alpha_sigma_squared(alpha: Tensor, sigma: Tensor) -> Tensor:
    """w = α·σ²."""
    return alpha * sigma**2


WEIGHTINGS: Mapping[Weighting, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "sigma-squared": sigma_squared,
        "uniform": uniform,
        "sigma-over-alpha": sigma_over_alpha,
        "alpha-over-sigma": alpha_over_sigma,
        "alpha-sigma": alpha_sigma,
        "alpha-sigma-squared": alpha_sigma_squared,
    }
)


def weight(name: Weighting, schedule: NoiseSchedule, t: Timesteps, like: Tensor) -> Tensor:
    """w(t) as [b 1 1 1], with the dtype and the device of `like`."""
    return WEIGHTINGS[name](schedule.alpha(t, like), schedule.sigma(t, like))
