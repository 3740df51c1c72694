"""Models that several metrics read with, loaded once."""

from weakref import WeakValueDictionary

import torch

from sd_core.encoders.clip import Clip

_REMEDY = (
    "Shorten the text, or name another CLIP with the metric's option model: --set METRIC.model=..."
)

# For as long as a metric holds them.
_clips: WeakValueDictionary[tuple[str, str, str], Clip] = WeakValueDictionary()


def shared_clip(model: str, device: torch.device, *, remedy: str = _REMEDY) -> Clip:
    """The same CLIP for every metric that asks for it; nobody may make it forget its texts."""
    key = (model, str(device), remedy)
    clip = _clips.get(key)
    if clip is None:
        clip = _clips[key] = Clip(model, device=device, remedy=remedy)
    return clip
