"""From poses around the orbit to what the meter says. A pose is an index into POSES.

Where a view shows nothing like the object, its pose is `NO_POSE`.
"""

from math import ceil
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sd_core.entropy import entropies
from sd_toybox.model.pose_head import grid_azimuths
from sd_toybox.world.poses import POSES, pose_indices

NO_POSE: Final = -1

# A run of views this wide or narrower is a slip of the judge: no face, and no gap between two.
# The gap between three faces is twice as wide.
FLICKER_DEG: Final = 15.0

Poses = Int[Tensor, " views"]
Shares = Float[Tensor, " poses"]
Posterior = Float[Tensor, "views azimuths"]


def best_poses(posterior: Posterior) -> Poses:
    """argmax over front, right, back, left of Σ p(k | x), k over the six azimuths of each."""
    pose_of = pose_indices(grid_azimuths(posterior.shape[1]))
    share = torch.stack([posterior[:, pose_of == pose].sum(dim=1) for pose in range(len(POSES))])
    return share.argmax(dim=0)


def best_azimuths(posterior: Posterior) -> Float[Tensor, " views"]:
    """The azimuth a_k of the largest p(k | x), in radians."""
    return grid_azimuths(posterior.shape[1])[posterior.argmax(dim=1)]


def pose_shares(poses: Poses) -> Shares:
    """The share of all views that show the front, right, back and left; the rest show nothing."""
    return torch.stack([(poses == pose).float().mean() for pose in range(len(POSES))])


def pose_entropy(shares: Shares) -> float:
    """-Σ_i q_i·ln q_i in nats, q the shares scaled to sum 1: ln 4 = 1.386 at most, 0 for none."""
    total = shares.sum()
    return float(entropies((shares / total)[None])) if total > 0 else 0.0


def consistency(
    estimated: Float[Tensor, " views"],
    azimuth: Float[Tensor, " views"],
    seen: Bool[Tensor, " views"],
) -> float:
    """How well estimated azimuths â follow the camera's a, up to one rotation and mirror.

        max over s = ±1 and φ of 1/N·Σ_i cos(â_i - s·a_i - φ)  =  max_s |1/N·Σ_i e^{i(â_i - s·a_i)}|

    For a fixed s let R·e^{iθ} be the mean of e^{i(â_i - s·a_i)}. The mean of the cosines is the
    real part of e^{-iφ}·R·e^{iθ}, which is R·cos(θ - φ), and is largest, R, at φ = θ. A view that
    is not `seen` adds 0 to the sum and 1 to N: it follows nothing.
    """
    if len(azimuth) == 0:
        return 0.0
    follows = [
        torch.polar(seen.to(azimuth.dtype), estimated - mirror * azimuth).mean().abs()
        for mirror in (1, -1)
    ]
    return float(torch.stack(follows).amax())


def face_count(frontal: Bool[Tensor, " ring"]) -> int:
    """How many faces there are on a ring of views, evenly spaced by growing azimuth.

    A face looks frontal over an arc of 90°, so an arc of frontal views of width w counts as w/90°
    faces, rounded (a half downwards), at least 1: an object that is frontal from everywhere has
    four. Arcs and gaps of `FLICKER_DEG` and less are overlooked.
    """
    calm = without_flicker(frontal)
    if bool(calm.all()):
        return len(POSES)
    if not bool(calm.any()):
        return 0
    gap = int((~calm).int().argmax())
    from_a_gap = calm.roll(-gap).int()
    run, lengths = torch.unique_consecutive(from_a_gap, return_counts=True)
    wide = [len(POSES) * int(length) / len(frontal) for length in lengths[run == 1]]
    return sum(max(1, ceil(faces - 0.5)) for faces in wide)


def without_flicker(frontal: Bool[Tensor, " ring"]) -> Bool[Tensor, " ring"]:
    """The majority of the views within 15° to each side: of three for 24 views, five for 48.

    With fewer than 24 views each is its own majority: one of them is wider than a flicker.
    """
    reach = int(FLICKER_DEG * len(frontal) / 360 + 1e-6)
    votes = torch.stack([frontal.roll(by).int() for by in range(-reach, reach + 1)])
    return votes.sum(dim=0) > reach
