"""Whether the pictures that the prior makes of each class's phrase differ at all."""

import warnings
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

# Of each class: what the encoder sees in its pictures as a whole.
Wholes = Mapping[str, Float[Tensor, "pictures width"]]


class TemplatesLookAlike(UserWarning):
    """The classes' own pictures can hardly be told apart, so that no classifier could."""


def share_at_home(wholes: Wholes) -> float:
    """The share of pictures nearer, by cosine, to the mean of their own class than to any other.

    A picture does not count in the mean of its own class. By chance it is 1/classes.
    """
    units = {name: normalize(whole, dim=1) for name, whole in wholes.items()}
    at_home, pictures = 0, 0
    for name, own in units.items():
        others = [unit.mean(dim=0, keepdim=True) for each, unit in units.items() if each != name]
        rest = (own.sum(dim=0) - own) / (len(own) - 1)
        away = (own @ normalize(torch.cat(others), dim=1).T).amax(dim=1)
        at_home += int(((own * normalize(rest, dim=1)).sum(dim=1) > away).sum())
        pictures += len(own)
    return at_home / pictures


def warn_if_alike(wholes: Wholes) -> None:
    """Below half way from chance to all, the phrases mean little to the prior."""
    if len(wholes) < 2 or min(len(whole) for whole in wholes.values()) < 2:
        return
    chance, found = 1 / len(wholes), share_at_home(wholes)
    if found < (1 + chance) / 2:
        warnings.warn(
            f"the prior's pictures of {', '.join(wholes)} look alike: {found:.0%} of them are "
            f"nearest to their own class, {chance:.0%} would be by chance, so that templates "
            "chosen from them tell little. Choose some by hand: score-distill templates, or a "
            "folder in classifier.templates.",
            TemplatesLookAlike,
            stacklevel=2,
        )
