"""What reads the toybox's pictures: its own CLIP, in every place."""

from sd_core.encoders.usual import Encoders
from sd_toybox.model.folders import CLIP, shipped_folder
from sd_toybox.world.captions import Caption, View
from sd_toybox.world.kinds import COLOURS, KINDS

_OWN = str(shipped_folder() / CLIP)
_VIEWS: tuple[View, ...] = ("front", "side", "back")

# In the place of ImageNet's classes: everything that a toy can be, from every side that has a word.
ENCODERS = Encoders(
    clip=_OWN,
    features=_OWN,
    classifier=None,
    classes=tuple(
        Caption(kind, colour, view).text()
        for kind in KINDS
        for colour in COLOURS
        for view in _VIEWS
    ),
    poses=tuple(f"{view} view" for view in _VIEWS),
    captioner=None,
)
