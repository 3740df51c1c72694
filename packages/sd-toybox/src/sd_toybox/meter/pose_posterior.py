"""Which azimuth a view shows, when the object's true views are known.

Two pictures are compared by what tells the azimuths apart, and by nothing else. In each channel c,
the mean m_c over the 24 true views and a constant are fitted to the picture and taken away,

    d_c = x_c - α_c - β_c·m_c     (α_c, β_c by least squares),

so brightness, contrast, fog, another body colour and the plain outline do not count. What is left
is compared with the same of the true view at azimuth a_k, by their cosine ρ_k, the largest of a
few small shifts and sizes. Then p(k | x) = exp(ρ_k/τ)/Σ_j exp(ρ_j/τ).
"""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, normalize, pad

from sd_core.shapes import Images

PIXELS: Final = 32  # of the pictures that are shifted; what is compared has half of it
SHIFT: Final = 1  # of these pixels, to all sides: as much as a picture of 64² off by two

# On a true view ρ is 1 at its own azimuth and about 0.6 at the next, 15° away. Half way between
# two it is about 0.8 at both and below 0.5 elsewhere. exp(-0.3/0.05) = 0.002: the two share it.
TEMPERATURE: Final = 0.05

# Fainter than this a pattern is not seen (root mean square, of 1): rounding errors have cosines.
_FAINTEST = 0.003

Posterior = Float[Tensor, "views azimuths"]
Cosines = Float[Tensor, "views azimuths"]
Planes = Float[Tensor, "*batch channels values"]
Background = Float[Tensor, "channels values 2"]


def pose_posterior(cosines: Cosines) -> Posterior:
    """p(k | x) = exp(ρ_k/τ)/Σ_j exp(ρ_j/τ), τ = 0.05."""
    return (cosines / TEMPERATURE).softmax(dim=1)


def view_cosines(views: Images, true_views: Float[Tensor, "azimuths 3 32 32"]) -> Cosines:
    """ρ_k for each view and true view, the largest over shifts of the view by one pixel of 32.

    Views have any size. A view without a pattern, such as a white one, has ρ = 0.
    """
    small = avg_pool2d(true_views, 2).flatten(2)
    shared = _orthonormal(small.mean(dim=0))
    patterns = _patterns(small, shared)
    moved = _patterns(_shifted(views).flatten(3), shared)
    return (moved @ patterns.T).amax(dim=1)


def _shifted(views: Images) -> Float[Tensor, "views shifts channels 16 16"]:
    """Every view at 32², moved to all sides, at 16²; the edge is repeated."""
    small = pad(adaptive_avg_pool2d(views, PIXELS), (SHIFT,) * 4, mode="replicate")
    windows = small.unfold(2, PIXELS, 1).unfold(3, PIXELS, 1).permute(0, 2, 3, 1, 4, 5)
    moved = avg_pool2d(windows.flatten(0, 2), 2)
    return moved.view(len(views), -1, *moved.shape[1:])


def _orthonormal(mean: Float[Tensor, "channels values"]) -> Background:
    """An orthonormal basis of the constants and the mean, for each channel."""
    flat = torch.stack([torch.ones_like(mean), mean], dim=-1)
    basis: Tensor = torch.linalg.qr(flat).Q
    return basis


def _patterns(planes: Planes, shared: Background) -> Float[Tensor, "*batch features"]:
    """d/|d|: planes without their part in the span of `shared`, at length 1, or 0 if too faint."""
    fitted = torch.einsum("cvi,...cv->...ci", shared, planes)
    rest = (planes - torch.einsum("cvi,...ci->...cv", shared, fitted)).flatten(-2)
    seen = rest.square().mean(dim=-1, keepdim=True).sqrt() > _FAINTEST
    return torch.where(seen, normalize(rest, dim=-1), 0.0)
