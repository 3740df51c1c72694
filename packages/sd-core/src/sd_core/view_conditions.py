"""What the prior is told of each view: its text, what that is held against, and what it is not.

Perp-Neg (Armandpour et al. 2023), with threestudio's values: between two views the texts are
blended by azimuth, and a view is pushed away from those that it is not. Of a camera |a| from the
front,

    |a| < 90°     r = 1 − |a|/90°    blend r·front + (1 − r)·side    w_front = −f_fs(r)
                                                                     w_side  = −f_sf(1 − r)
    otherwise     r = 2 − |a|/90°    blend r·side + (1 − r)·back     w_side  = −f_sb(r)
                                                                     w_front = −f_fsb(r)

with f(r) = a·exp(−b·r) + c. From above nothing is pushed away.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch

from sd_core.cameras import CameraBatch
from sd_core.condition import Away, Texts
from sd_core.prior import AbstractPrior
from sd_core.prompts import PromptOptions, View, view_of, view_text, view_texts

# (a, b, c) of f.
FS: Final = (4.0, 0.5, -2.426)
SF: Final = (4.0, 0.5, -2.426)
SB: Final = (1.0, 0.5, -0.606)
FSB: Final = (1.0, 0.5, 0.967)


@dataclass(frozen=True)
class Blend:
    """r·near + (1 − r)·far, and two views with their weights, at most 0."""

    near: View
    far: View
    share: float
    away: tuple[View, View]
    weights: tuple[float, float]


def view_conditions(prior: AbstractPrior, prompt: PromptOptions, cameras: CameraBatch) -> Texts:
    """As `prompt.views` and `prompt.perp_neg` say; `away` where Perp-Neg is asked for."""
    negative = prior.encode_text([prompt.negative] * len(cameras), cameras)
    if not prompt.perp_neg:
        text = prior.encode_text(view_texts(prompt, cameras), cameras)
        return Texts(text, negative)
    angles = zip(cameras.azimuth.tolist(), cameras.elevation.tolist(), strict=True)
    blends = [blend_of(azimuth, elevation, prompt) for azimuth, elevation in angles]
    near, far, first, second = (
        prior.encode_text([view_text(prompt, view) for view in views], cameras)
        for views in zip(*((b.near, b.far, *b.away) for b in blends), strict=True)
    )
    share = torch.tensor([blend.share for blend in blends], device=prior.device)
    weights = torch.tensor([blend.weights for blend in blends], device=prior.device)
    return Texts(prior.between(near, far, share), negative, Away((first, second), weights))


def blend_of(azimuth: float, elevation: float, prompt: PromptOptions) -> Blend:
    """Of a camera at these angles, in radians."""
    if view_of(azimuth, elevation, prompt) == "overhead":
        return Blend("overhead", "overhead", 1.0, ("side", "front"), (0.0, 0.0))
    quarters = abs(math.remainder(azimuth, math.tau)) / (math.pi / 2)
    if quarters < 1:
        r = 1 - quarters
        return Blend("front", "side", r, ("front", "side"), (-_f(FS, r), -_f(SF, 1 - r)))
    r = 2 - quarters
    return Blend("side", "back", r, ("side", "front"), (-_f(SB, r), -_f(FSB, r)))


def _f(values: tuple[float, float, float], r: float) -> float:
    a, b, c = values
    return a * math.exp(-b * r) + c
