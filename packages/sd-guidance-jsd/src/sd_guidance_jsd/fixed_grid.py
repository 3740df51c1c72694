"""Levels of inversion that are the same for every t, so that a low t is reached in fewer hops."""

import torch
from jaxtyping import Int
from torch import Tensor

from sd_core.shapes import Timesteps

# Stable Diffusion's `steps_offset`: its samplers stand at 1, 101, ..., 901.
OFFSET = 1


def fixed_grid(
    t: Timesteps, end: Timesteps, *, steps: int, length: int
) -> Int[Tensor, "levels batch"]:
    """For each sample the levels 0, then 1, 1 + d, 1 + 2d, ... below t, then its end ≥ t.

    d = ⌊length/steps⌋, at least 1. What has fewer hops than the longest of the batch repeats its
    end, where a hop changes nothing; so the end is no level with α = 0.
    """
    apart = max(length // steps, 1)
    levels = OFFSET + apart * torch.arange(hops_on_fixed_grid(t, steps, length) - 1)
    below = levels.to(t.device).unsqueeze(1)
    inner = torch.where(below < t, below, end)
    return torch.cat([torch.zeros_like(t)[None], inner, end[None]])


def hops_on_fixed_grid(t: Timesteps, steps: int, length: int) -> int:
    """Of the longest way in the batch: the levels below t, and one hop more to the end."""
    apart = max(length // steps, 1)
    highest = int(t.max())
    below = (highest - OFFSET - 1) // apart + 1 if highest > OFFSET else 0
    return below + 1
