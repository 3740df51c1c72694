"""Which patches show the object: the first principal component of their features.

    v = argmax_{|v|=1} Σ_n ((f_n - μ)·v)²,   s = (f - μ)·v,   on where σ((s - mean s)/std s) > ½

RecDreamer, appendix B.1.3. v is found once, on the templates; mean and std are each picture's own.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sd_core.shapes import Saliency

Patches = Float[Tensor, "batch rows columns width"]
PatchMask = Bool[Tensor, "batch rows columns"]
PatchScores = Float[Tensor, "batch rows columns"]


@dataclass(frozen=True, eq=False)
class PrincipalAxis:
    """μ and v. The sign of v is arbitrary until it is turned towards the object."""

    mean: Float[Tensor, " width"]
    direction: Float[Tensor, " width"]

    def scores(self, patches: Patches) -> PatchScores:
        """(f - μ)·v of each patch."""
        return (patches - self.mean) @ self.direction


def principal_axis(patches: Patches) -> PrincipalAxis:
    """The mean of all patches, and the eigenvector of their covariance's largest eigenvalue."""
    points = patches.detach().reshape(-1, patches.shape[-1])
    mean = points.mean(dim=0)
    # A covariance squares the range of values, which would cost half of float32's digits.
    away = (points - mean).double()
    _, vectors = torch.linalg.eigh(away.T @ away)
    return PrincipalAxis(mean, vectors[:, -1].to(mean))


def foreground_mask(scores: PatchScores) -> PatchMask:
    """On where σ((s - mean s)/std s) > ½ within a picture, which is where s > mean s.

    A picture without contrast would be empty; all of it is on.
    """
    return or_everything(scores > scores.mean(dim=(1, 2), keepdim=True))


def or_everything(mask: PatchMask) -> PatchMask:
    """A picture in which no patch is on has all of them on."""
    return mask | ~mask.any(dim=2, keepdim=True).any(dim=1, keepdim=True)


def towards_the_object(
    axis: PrincipalAxis, patches: Patches, saliency: Saliency | None = None
) -> PrincipalAxis:
    """The axis with the sign under which the object is on.

    With a saliency (any unit, higher on the object, such as cross-attention to the prompt): the
    sign under which scores grow with it, Σ (s - mean s)·(saliency - mean saliency) ≥ 0. Without:
    the sign under which at most half of the patches at the pictures' borders are on.
    """
    scores = axis.scores(patches.detach())
    if saliency is None:
        on = scores > scores.mean(dim=(1, 2), keepdim=True)
        border = torch.cat([on[:, 0], on[:, -1], on[:, 1:-1, 0], on[:, 1:-1, -1]], dim=1)
        right = bool(border.float().mean() <= 0.5)
    else:
        away, salient = (
            part - part.mean(dim=(1, 2), keepdim=True) for part in (scores, saliency.to(scores))
        )
        right = bool((away * salient).sum() >= 0)
    return axis if right else replace(axis, direction=-axis.direction)
