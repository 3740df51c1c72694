"""Small worlds whose answers are known exactly, for tests of methods, renderers and estimators."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator

from sd_core.cameras import CameraBatch, turntable
from sd_core.guidance import AbstractGuidance, GuidanceContext
from sd_core.prior import AbstractPrior
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.prompts import PromptOptions

PROMPT = "a red bear"


def mixture_prior(
    *,
    channels: int = 2,
    height: int = 1,
    width: int = 1,
    dtype: torch.dtype = torch.float32,
) -> GaussianMixturePrior:
    """Two Gaussians; the prompt "a red bear" is the first alone, "a blue fox" the second."""
    size = channels * height * width
    factor = torch.randn(2, size, size, generator=Generator().manual_seed(7), dtype=torch.float64)
    covariances = factor @ factor.mT / size + 0.1 * torch.eye(size, dtype=torch.float64)
    ramp = torch.linspace(-1, 1, size, dtype=torch.float64)
    means = torch.stack([ramp, 0.5 - ramp]).view(2, channels, height, width)
    return GaussianMixturePrior(
        means.to(dtype),
        covariances.to(dtype),
        weights=torch.tensor([0.7, 0.3], dtype=dtype),
        prompts=[[PROMPT], ["a blue fox"]],
    )


def guidance_context(prior: AbstractPrior, prompt: str = PROMPT) -> GuidanceContext:
    """A context for one method alone; it finds no other methods."""
    return GuidanceContext(prior=prior, prompt=PromptOptions(text=prompt), find=_find_nothing)


def some_latents(prior: AbstractPrior, count: int, seed: int = 0) -> torch.Tensor:
    """Standard normal latents of the prior's shape."""
    generator = Generator().manual_seed(seed)
    return torch.randn(count, *prior.latent_shape, generator=generator).to(prior.device)


def some_cameras(count: int, device: torch.device | str = "cpu") -> CameraBatch:
    """Cameras around the object, all different."""
    return turntable(count).to(device)


def _find_nothing(name: str, options: Mapping[str, Any]) -> AbstractGuidance:
    raise LookupError(f"this context finds no other methods, not even '{name}'")
