"""Views sorted into rings: full circles of evenly spaced azimuths, one for each elevation."""

from math import radians, tau
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sd_core.errors import ConfigError

FEWEST: Final = 8
_SAME_ELEVATION = radians(0.5)
_UNEVEN = 0.1  # of the spacing

PerView = Float[Tensor, " views"]


def rings_of_views(azimuth: PerView, elevation: PerView) -> list[Int[Tensor, " ring"]]:
    """Indices of the views of each ring by growing azimuth, the lowest ring first."""
    order = elevation.argsort(stable=True)
    cuts = torch.nonzero(elevation[order].diff() > _SAME_ELEVATION).flatten() + 1
    rings = torch.tensor_split(order, cuts.tolist())
    return [_around(ring, azimuth[ring], float(elevation[ring[0]])) for ring in rings]


def _around(
    ring: Int[Tensor, " ring"], azimuth: Float[Tensor, " ring"], elevation: float
) -> Int[Tensor, " ring"]:
    """The ring from azimuth 0 on, if it is one."""
    turned = azimuth.remainder(tau)
    order = turned.argsort()
    steps = turned[order].diff(append=turned[order[:1]] + tau)
    spacing = tau / len(ring)
    if len(ring) < FEWEST or bool(((steps - spacing).abs() > _UNEVEN * spacing).any()):
        raise ConfigError(
            f"faces are counted around a full circle of at least {FEWEST} views at equal steps of "
            f"azimuth for each elevation, but the {len(ring)} views at {_degrees(elevation)}° are "
            f"{_degrees(float(steps.min()))}° to {_degrees(float(steps.max()))}° apart. "
            "Use a turntable of one object, of 24 views at best."
        )
    return ring[order]


def _degrees(angle: float) -> str:
    return f"{angle * 360 / tau:.0f}"
