"""Combining predictions under several texts; the only copies in the repository.

One convention everywhere: ε̂ = ε(∅) + s·(ε(y) − ε(∅)), so s = 1 is no guidance. Code written as
ε(y) + s·(ε(y) − ε(∅)) states s + 1 here.
"""

from jaxtyping import Float
from torch import Tensor

from sd_core.shapes import Latents, PerSample

# The predictions under each sample's own negatives, on that sample's own noisy latents.
Negatives = Float[Tensor, "batch negatives latent_channels latent_height latent_width"]
NegativeWeights = Float[Tensor, "batch negatives"]

# Keeps the projection finite where the positive says nothing (Perp-Neg's own constant).
_SMALLEST_SQUARED_NORM = 1e-6


def classifier_free_guidance(
    unconditional: Latents, text: Latents, scale: float | PerSample
) -> Latents:
    """ε̂ = ε(∅) + s·(ε(y) − ε(∅)). s = 0 ignores the text, s = 1 is ε(y), s > 1 exaggerates it.

    Linear, so it serves any prediction that is linear in ε (score, v and x0 at one t) as well.
    """
    return unconditional + _per_sample(scale) * (text - unconditional)


def perpendicular_negatives(
    unconditional: Latents,
    positive: Latents,
    negatives: Negatives,
    weights: NegativeWeights,
    scale: float | PerSample,
) -> Latents:
    """ε̂ = ε(∅) + s·(e₊ + Σ_i w_i·perp(e_i, e₊)), with e = ε(·) − ε(∅) and w_i ≤ 0.

    perp(x, y) = x − ⟨x, y⟩/max(‖y‖², 1e-6)·y, so a negative never pushes against the positive
    (Perp-Neg, Armandpour et al. 2023). w = 0 is classifier-free guidance. Products and norms are
    taken within a sample: a sample's result does not depend on the batch around it.
    """
    towards = positive - unconditional
    away = perpendicular(negatives - unconditional.unsqueeze(1), towards)
    direction = towards + (weights[:, :, None, None, None] * away).sum(1)
    return unconditional + _per_sample(scale) * direction


def perpendicular(vectors: Negatives, axis: Latents) -> Negatives:
    """perp(x, y) = x − ⟨x, y⟩/max(‖y‖², 1e-6)·y, over channels, height and width of each sample."""
    along = axis.unsqueeze(1)
    products = (vectors * along).sum((2, 3, 4), keepdim=True)
    squared_norms = along.square().sum((2, 3, 4), keepdim=True)
    return vectors - products / squared_norms.clamp(min=_SMALLEST_SQUARED_NORM) * along


def _per_sample(scale: float | PerSample) -> float | Tensor:
    return scale.view(-1, 1, 1, 1) if isinstance(scale, Tensor) else scale
