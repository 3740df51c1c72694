"""Minority sampling (fig. 3): from a picture to a sample meant to suit the prompt less.

1. x̂_t: DDIM inversion of x̂_0, told the prompt                                `invert`
2. x̄_0 = (x̂_t − σ_t·ε(x̂_t, y))/α_t, in one step                              `minority_sample`
3. x̄_t = α_t·x̄_0 + σ_t·ε with a fresh ε ~ N(0, I), at the same t             `minority_sample`

The prediction in 2 is also a part of the gradient, so it is given here, not asked for.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Generator

from sd_core.inversion import ddim_invert, ddim_step, hop_variance, level_at
from sd_core.noising import Noised, NoiseSchedule, add_noise
from sd_core.parameterisation import clean_from_noise, noise_from_clean
from sd_core.shapes import Latents, Timesteps
from sd_guidance_jsd.fixed_grid import fixed_grid
from sd_guidance_jsd.options import InversionOptions

PredictNoise = Callable[[Latents, Timesteps], Latents]


def invert(
    latents: Latents,
    t: Timesteps,
    *,
    options: InversionOptions,
    schedule: NoiseSchedule,
    predict_noise: PredictNoise,
    generator: Generator,
) -> Noised:
    """Step 1: x̂_t by DDIM inversion to level t + δ, given back as a sample of level t.

    Its noise is κ = (x̂_t − α_t·x̂_0)/σ_t, so that x̂_t = α_t·x̂_0 + σ_t·κ. Without an overshoot δ is
    0, without η nothing is drawn. The network is asked at the level that a hop leaves, 0 first.
    """
    end = _overshot(t, options, schedule, generator)
    if options.grid == "even":
        noisy = ddim_invert(
            latents,
            t=end,
            steps=options.steps,
            schedule=schedule,
            predict_noise=predict_noise,
            generator=generator,
            eta=options.eta,
        ).noisy
    else:
        noisy = latents
        grid = fixed_grid(t, end, steps=options.steps, length=len(schedule))
        for leaving, reaching in pairwise(grid):
            # The clean latents count as a sample of level 0, as in the released code.
            start, stop = (level_at(schedule, level, latents) for level in (leaving, reaching))
            noisy = ddim_step(noisy, predict_noise(noisy, leaving), start=start, end=stop)
            if options.eta > 0:
                spread = options.eta * hop_variance(start=start, end=stop).sqrt()
                noisy = noisy + spread * standard_normal(latents, generator)
    alpha, sigma = level_at(schedule, t, latents)
    noise = noise_from_clean(noisy, latents, alpha=alpha, sigma=sigma)
    return Noised(clean=latents, noise=noise, t=t, noisy=noisy)


def minority_sample(
    inverted: Noised, prediction: Latents, fresh: Latents, *, schedule: NoiseSchedule
) -> Noised:
    """Steps 2 and 3: x̄_0 = (x̂_t − σ·ε̂)/α as `clean`, x̄_t = α·x̄_0 + σ·ε as `noisy`.

    `prediction` is ε̂, `fresh` is ε; where they are equal, x̄_t is x̂_t. α > 0.
    """
    alpha, sigma = level_at(schedule, inverted.t, inverted.noisy)
    clean = clean_from_noise(inverted.noisy, prediction, alpha=alpha, sigma=sigma)
    noisy = add_noise(schedule, clean, fresh, inverted.t)
    return Noised(clean=clean, noise=fresh, t=inverted.t, noisy=noisy)


def standard_normal(like: Latents, generator: Generator) -> Latents:
    """ε ~ N(0, I), as many elements as `like` has."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _overshot(
    t: Timesteps, options: InversionOptions, schedule: NoiseSchedule, generator: Generator
) -> Timesteps:
    """min(t + δ, last) with δ uniform over the whole numbers 0 ... round(overshoot·T) − 1.

    `last` is the noisiest level with α > 0: no hop leaves pure noise, not even to stay there.
    """
    levels = round(options.overshoot * len(schedule))
    if levels == 0:
        return t
    device = generator.device
    above = torch.randint(levels, (len(t),), generator=generator, device=device).to(t.device)
    last = int(schedule.alphas.nonzero().max())
    return (t + above).clamp(max=last)
