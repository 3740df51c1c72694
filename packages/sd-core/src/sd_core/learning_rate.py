"""How the step size of the scene changes over a stage."""

from math import cos, pi

import torch

from sd_core.experiment_options import OptimiserOptions
from sd_core.step import Step


def rate_factor(options: OptimiserOptions, step: Step) -> float:
    """min(1, (i + 1)/w), then 1, or ½·(1 + cos(π·(i - w)/(n - w))), at step i of n, warm-up w."""
    warm_up = options.warm_up_steps
    if step.index < warm_up:
        return (step.index + 1) / warm_up
    if options.decay == "none":
        return 1.0
    return 0.5 * (1 + cos(pi * (step.index - warm_up) / (step.total - warm_up)))


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Each group's step size is `factor` times what it began with, which its state remembers."""
    for group in optimiser.param_groups:
        group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
