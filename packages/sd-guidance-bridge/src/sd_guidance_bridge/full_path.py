"""The full path of the bridge: many steps of the probability flow instead of one (section 5)."""

from collections.abc import Callable
from itertools import pairwise

import torch

from sd_core.inversion import Level, ddim_step, inversion_grid, level_at
from sd_core.noising import NoiseSchedule
from sd_core.shapes import Latents, Timesteps
from sd_core.step import Step
from sd_guidance_bridge.options import FullPathOptions

PredictBoth = Callable[[Latents, Latents, Timesteps], tuple[Latents, Latents]]


def first_step(options: FullPathOptions, step: Step) -> int:
    """The first step of the full path; the number of steps where there is none."""
    return round(options.start * step.total)


def noisy_end(options: FullPathOptions, step: Step) -> float:
    """T' = first + u·(last - first), u from 0 where the full path starts to 1 at the last step."""
    begin = first_step(options, step)
    passed = (step.index - begin) / max(1, step.total - 1 - begin)
    return options.first + passed * (options.last - options.first)


def walk_down_twice(
    noisy: Latents,
    *,
    t: Timesteps,
    steps: int,
    schedule: NoiseSchedule,
    predict: PredictBoth,
) -> tuple[Latents, Latents]:
    """(ψ_tgt, ψ_src): from x_t along both flows to clean pictures, DDIM steps of equal length.

    `predict(x_tgt, x_src, t)` gives both ε. The source's way is walked again, although the latents
    that were inverted are known: so the error of finite steps is in both ways and cancels, and two
    equal predictions end in the same place to the bit.
    """
    target = source = noisy
    start = level_at(schedule, t, noisy)
    clean = Level(torch.ones_like(start.alpha), torch.zeros_like(start.sigma))
    grid = inversion_grid(t, steps).flip(0)
    for hop, (leaving, reaching) in enumerate(pairwise(grid)):
        end = clean if hop == steps - 1 else level_at(schedule, reaching, noisy)
        target_noise, source_noise = predict(target, source, leaving)
        target = ddim_step(target, target_noise, start=start, end=end)
        source = ddim_step(source, source_noise, start=start, end=end)
        start = end
    return target, source
