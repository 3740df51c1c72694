"""What a target adds to its noise prediction, at most as long as the residual allows."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sd_core.shapes import Latents

# none: as long as it is. at-most: no longer than the residual. equal: as long as the residual,
# but for what is so short that it may be rounding.
Limit = Literal["none", "at-most", "equal"]

# RecDreamer's released code: 4·64·64, before it cuts.
LARGEST_FACTOR = 16384.0


@dataclass(frozen=True, eq=False)
class Correction:
    """An ε to add to the target's, once the source is known and with it how long it may be."""

    noise: Latents
    limit: Limit = "none"


def relative_length(correction: Correction, residual: Latents) -> float | None:
    """‖δ‖/‖r‖ of the whole batch, before any limit: above 1 it is longer than the rest.

    None where there is no residual, as before an estimator has learned anything.
    """
    rest = float(residual.norm())
    return float(correction.noise.norm()) / rest if rest > 0 else None


def limited(correction: Correction, residual: Latents) -> Latents:
    """κ·δ for each sample, with κ = 1 (none) or min(m, ‖r‖/‖δ‖), m = 1 (at-most), 16384 (equal).

    δ is the correction and r the residual without it, target - source. Where δ = 0 it stays 0.
    """
    if correction.limit == "none":
        return correction.noise
    own, allowed = _lengths(correction.noise), _lengths(residual)
    factor = torch.where(own > 0, allowed / own, 1.0)
    return correction.noise * factor.clamp(max=LARGEST_FACTOR if correction.limit == "equal" else 1)


def _lengths(latents: Latents) -> Float[Tensor, "batch 1 1 1"]:
    lengths: Tensor = torch.linalg.vector_norm(latents, dim=(1, 2, 3), keepdim=True)
    return lengths
