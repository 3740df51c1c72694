"""Pictures from a prior: DDIM with classifier-free guidance."""

from collections.abc import Sequence

import torch

from sd_core.inversion import ddim_step, level_at
from sd_core.noising import NoiseSchedule
from sd_core.prior import AbstractPrior
from sd_core.shapes import Latents


def ddim_sample(
    prior: AbstractPrior,
    noise: Latents,
    prompts: Sequence[str],
    *,
    scale: float,
    steps: int,
    negative: str = "",
) -> Latents:
    """x0 from noise: x_s = α_s·x̂0 + σ_s·ε̂, x̂0 = (x_t - σ_t·ε̂)/α_t (Song et al. 2021, η = 0).

    Times are equally spaced as in Stable Diffusion ("leading", offset 1); the last s is 0. With
    more than a quarter of the schedule's steps, the first is far from pure noise.
    """
    text, without = prior.encode_text(prompts), prior.encode_text([negative] * len(prompts))
    schedule, latents = prior.schedule, noise
    times = sampling_times(schedule, steps)
    for t, s in zip(times, [*times[1:], 0], strict=True):
        now, then = (torch.full((len(noise),), each, device=noise.device) for each in (t, s))
        guided = prior.predict_guided(latents, now, text, without, scale=scale)
        start, end = level_at(schedule, now, latents), level_at(schedule, then, latents)
        latents = ddim_step(latents, guided, start=start, end=end)
    return latents


def sampling_times(schedule: NoiseSchedule, steps: int) -> list[int]:
    """t = k·(T // steps) + 1 for k = steps - 1 .. 0."""
    stride = len(schedule) // steps
    return [k * stride + 1 for k in reversed(range(steps))]
