"""Which picture a camera sees, and which window of it: a function of the camera's labels alone.

With azimuth a and elevation e in degrees and N pictures:

    s = N·((a + 180) mod 360)/360      particle k = ⌊s⌋, across p = s - k in [0, 1)
    down q = (90 - e)/180 in [0, 1]    0 is the top: a camera straight above sees the upper edge

A window of h × w pixels in a picture of H × W has its upper left corner in row ⌊q·(H - h + 1)⌋ and
column ⌊p·(W - w + 1)⌋, at most H - h and W - w. So every position is equally likely under cameras
that are uniform in a and e, both edges are reached, and pixels are copied, never blurred.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sd_core.cameras import CameraBatch
from sd_core.shapes import Images, PerSample

Particles = Float[Tensor, "particles channels height width"]
Views = Float[Tensor, "batch channels rows columns"]
Indices = Int[Tensor, "batch"]

# Angles count to 0.001°, as for the view words: a camera put on the border of two sectors is in the
# second, however its angle was rounded.
_WHOLE_TURN = 360_000


@dataclass(frozen=True, eq=False)
class PictureViews:
    """For each camera the number k of its picture, and where its window is in it: p and q."""

    particle: Indices
    across: PerSample
    down: PerSample


def views_of(cameras: CameraBatch, count: int) -> PictureViews:
    """What each camera sees of `count` pictures; the formula is at the top of this file."""
    turned = torch.remainder(_thousandths(cameras.azimuth) + _WHOLE_TURN // 2, _WHOLE_TURN)
    # + N/2, as a border such as 360°/7 may have been rounded down by half a thousandth.
    sectors = count * turned + count // 2
    below_the_pole = _WHOLE_TURN // 4 - _thousandths(cameras.elevation)
    return PictureViews(
        particle=sectors // _WHOLE_TURN,
        across=(sectors % _WHOLE_TURN) / _WHOLE_TURN,
        down=(below_the_pole / (_WHOLE_TURN // 2)).clamp(0, 1),
    )


def crops(pictures: Particles, views: PictureViews, window: tuple[int, int]) -> Views:
    """The windows alone, as smaller pictures of `window` = (rows, columns)."""
    top, left = _corners(views, tuple(pictures.shape[-2:]), window)
    rows = top[:, None] + torch.arange(window[0], device=top.device)
    columns = left[:, None] + torch.arange(window[1], device=left.device)
    particle = views.particle[:, None, None]
    return pictures[particle, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def masked(
    pictures: Particles, views: PictureViews, *, window: tuple[int, int], fill: float
) -> Images:
    """θ ⊙ m + fill·(1 - m): whole pictures with `fill` outside the window (ESD, App. B)."""
    height, width = pictures.shape[-2:]
    top, left = _corners(views, (height, width), window)
    row = torch.arange(height, device=top.device) - top[:, None]
    column = torch.arange(width, device=left.device) - left[:, None]
    in_rows, in_columns = (row >= 0) & (row < window[0]), (column >= 0) & (column < window[1])
    inside = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
    return torch.where(inside, pictures[views.particle], fill)


def _corners(
    views: PictureViews, size: tuple[int, ...], window: tuple[int, int]
) -> tuple[Indices, Indices]:
    """Row and column of the upper left pixels."""
    return tuple(  # type: ignore[return-value]
        (share * (whole - part + 1)).floor().long().clamp(0, whole - part)
        for share, whole, part in zip((views.down, views.across), size, window, strict=True)
    )


def _thousandths(angle: PerSample) -> Indices:
    return (angle.rad2deg() * 1000).round().long()
