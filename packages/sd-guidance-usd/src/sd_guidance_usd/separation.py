"""Whether the pictures of each class differ at all."""

import warnings
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

# Of each class: what the encoder sees in its pictures as a whole.
Wholes = Mapping[str, Float[Tensor, "pictures width"]]


class TemplatesLookAlike(UserWarning):
    """The classes' own pictures can hardly be told apart, so that no classifier could."""


def share_at_home(wholes: Wholes) -> float:
    """The share of pictures nearer, by cosine, to the mean of their own class than to any other.

    Picture i of n is compared with means of n - 1 pictures each: its own class without it, and the
    others without their i-th (the last, where they have fewer). With more pictures in the other
    means a picture would be nearer to those, as the mean of more has less noise. By chance the
    share is then 1/classes.
    """
    units = {name: normalize(whole, dim=1) for name, whole in wholes.items()}
    at_home, pictures = 0, 0
    for name, own in units.items():
        for index, picture in enumerate(own):
            near = {each: float(picture @ _mean_without(of, index)) for each, of in units.items()}
            at_home += near.pop(name) > max(near.values())
        pictures += len(own)
    return at_home / pictures


def _mean_without(units: Float[Tensor, "pictures width"], index: int) -> Float[Tensor, " width"]:
    left_out = min(index, len(units) - 1)
    mean = (units.sum(dim=0) - units[left_out]) / (len(units) - 1)
    return normalize(mean, dim=0)


def warn_if_alike(wholes: Wholes) -> None:
    """Below half way from chance to all; of the prior's own, the phrases mean little to it."""
    if len(wholes) < 2 or min(len(whole) for whole in wholes.values()) < 2:
        return
    chance, found = 1 / len(wholes), share_at_home(wholes)
    if found < (1 + chance) / 2:
        warnings.warn(
            f"the pictures of {', '.join(wholes)} look alike: {found:.0%} of them are "
            f"nearest to their own class, {chance:.0%} would be by chance, so that templates "
            "chosen from them tell little. Choose some by hand: score-distill templates, or a "
            "folder in classifier.templates.",
            TemplatesLookAlike,
            stacklevel=2,
        )
