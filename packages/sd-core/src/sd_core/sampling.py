"""Pictures from a prior: DDIM with classifier-free guidance."""

from collections.abc import Sequence

import torch

from sd_core.condition import Texts
from sd_core.errors import ConfigError
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

    Times are those of `sampling_times`; the last s is 0.
    """
    texts = Texts(prior.encode_text(prompts), prior.encode_text([negative] * len(prompts)))
    schedule, latents = prior.schedule, noise
    times = sampling_times(schedule, steps)
    for t, s in zip(times, [*times[1:], 0], strict=True):
        now, then = (torch.full((len(noise),), each, device=noise.device) for each in (t, s))
        guided = prior.predict_guided(latents, now, texts, scale=scale)
        start, end = level_at(schedule, now, latents), level_at(schedule, then, latents)
        latents = ddim_step(latents, guided, start=start, end=end)
    return latents


def sampling_times(schedule: NoiseSchedule, steps: int) -> list[int]:
    """t = k·(T // steps) + 1 for k = steps - 1 .. 0, as in Stable Diffusion ("leading", offset 1).

    Where that begins below 0.9·T, at what is not yet noise alone, as with 1 to 9 or 600 of 1000
    steps, or has no such t: t = (k + 1)·T/steps - 1, rounded, from T - 1 down ("trailing"). A last
    t of α = 0, which no step can leave, does not count to T.
    """
    length = len(schedule) - (float(schedule.alphas[-1]) == 0)
    if not 1 <= steps <= length:
        raise ConfigError(
            f"sampling in {steps} steps is not possible: the prior's noise schedule has {length} "
            f"times to step from. Choose from 1 to {length} steps."
        )
    stride, falling = len(schedule) // steps, range(steps - 1, -1, -1)
    leading = [k * stride + 1 for k in falling]
    if 0.9 * length <= leading[0] < length:
        return leading
    # Whole numbers alone, half upwards: the times differ, since they are at least 1 apart.
    return [(2 * (k + 1) * length + steps) // (2 * steps) - 1 for k in falling]
