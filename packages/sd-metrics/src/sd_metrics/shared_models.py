"""Models that several metrics read with, loaded once."""

from weakref import WeakValueDictionary

import torch

from sd_core.encoders.clip import Clip

_REMEDY = (
    "Shorten the text, or name another model in the metric's options: --set METRIC.model=..., or "
    "METRIC.classifier=..."
)

# For as long as a metric holds them.
_clips: WeakValueDictionary[tuple[str, str], Clip] = WeakValueDictionary()


def shared_clip(model: str, device: torch.device) -> Clip:
    """The same CLIP for every metric that asks for it; nobody may make it forget its texts."""
    key = (model, str(device))
    clip = _clips.get(key)
    if clip is None:
        clip = _clips[key] = Clip(model, device=device, remedy=_REMEDY)
    return clip
