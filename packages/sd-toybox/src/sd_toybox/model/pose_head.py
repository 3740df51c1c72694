"""From where a picture was taken: 24 azimuths, read off the CLIP model's picture vector.

softmax(W·p + b), p the pooled output of the vision transformer. The file lies beside the model.
The azimuths are (k + 1/2)·15°, so that none lies between two poses: front, right, back and left
have six each.
"""

from math import tau
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from sd_core.errors import ConfigError

AZIMUTHS: Final = 24  # one for each 15°
FILE: Final = "pose_head.safetensors"

Azimuths = Float[Tensor, " views"]
AzimuthShares = Float[Tensor, "views azimuths"]


def grid_azimuths(count: int = AZIMUTHS) -> Float[Tensor, " count"]:
    """(k + 1/2)·360°/count for k = 0 .. count - 1, in radians."""
    return (torch.arange(count) + 0.5) * (tau / count)


def azimuth_shares(azimuth: Azimuths) -> AzimuthShares:
    """What the head should say: max(0, 1 - |a - a_k|/15°) for the k-th azimuth a_k.

    So the two nearest share each azimuth, and their mean is the azimuth itself.
    """
    place = (azimuth * (AZIMUTHS / tau) - 0.5)[:, None]
    apart = (place - torch.arange(AZIMUTHS)).remainder(AZIMUTHS)
    return (1 - torch.minimum(apart, AZIMUTHS - apart)).clamp_min(0)


def load_pose_head(folder: Path) -> nn.Linear:
    """The head of the CLIP model in this folder: pooled output → a logit for each azimuth."""
    try:
        weights = load_file(folder / FILE)
    except FileNotFoundError:
        raise ConfigError(
            f"the folder {folder} has no {FILE}. Point to a CLIP folder of the toybox, or make one "
            "with `python -m sd_toybox.train`."
        ) from None
    head = nn.Linear(weights["weight"].shape[1], AZIMUTHS)
    head.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return head.requires_grad_(False)
