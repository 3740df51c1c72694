"""What is on a picture: two judges that know nothing of each other.

`RenderJudge` finds the nearest of the world's own renders, pixel by pixel; `ClipJudge` asks the
CLIP model. Both name a kind, a colour and an azimuth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import radians
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sd_core.cameras import orbit_cameras
from sd_core.shapes import Images
from sd_toybox.model.clip_reader import ClipReader
from sd_toybox.model.pose_head import grid_azimuths
from sd_toybox.world.kinds import COLOURS, KINDS
from sd_toybox.world.pictures import world_pictures
from sd_toybox.world.poses import pose_indices

_AT_ONCE = 250
_PIXELS = 32  # of the renders and of what is compared with them: half, so that jitter counts less

Numbers = Int[Tensor, " pictures"]


@dataclass(frozen=True, eq=False)
class Verdict:
    """Indices into KINDS and COLOURS, and the azimuth in radians, of each picture."""

    kind: Numbers
    colour: Numbers
    azimuth: Float[Tensor, " pictures"]

    @property
    def pose(self) -> Numbers:
        """Indices into POSES."""
        return pose_indices(self.azimuth)


class RenderJudge:
    """The nearest of renders of every kind and colour at a grid of azimuths and elevations."""

    def __init__(
        self,
        azimuths: int,
        elevations_deg: Sequence[float],
        *,
        kinds: Sequence[str] = KINDS,
        colours: Sequence[str] = COLOURS,
    ) -> None:
        azimuth = grid_azimuths(azimuths).repeat(len(elevations_deg))
        elevation = torch.tensor([radians(each) for each in elevations_deg])
        cameras = orbit_cameras(
            azimuth=azimuth,
            elevation=elevation.repeat_interleave(azimuths),
            distance=torch.full_like(azimuth, 2.0),
            vertical_fov=torch.full_like(azimuth, radians(40)),
        )
        pairs = [(kind, colour) for kind in kinds for colour in colours]
        renders = [world_pictures(kind, colour, cameras, _PIXELS) for kind, colour in pairs]
        self._renders = torch.cat(renders).flatten(1)
        numbers = torch.tensor([(KINDS.index(k), COLOURS.index(c)) for k, c in pairs])
        self._kind, self._colour = numbers.repeat_interleave(len(cameras), 0).unbind(1)
        self._azimuth = azimuth.repeat(len(pairs))

    def __call__(self, images: Images) -> Verdict:
        factor = images.shape[-1] // _PIXELS
        small = avg_pool2d(images, factor).flatten(1)
        nearest = [
            torch.cdist(some, self._renders).argmin(1) for some in torch.split(small, _AT_ONCE)
        ]
        found = torch.cat(nearest)
        return Verdict(self._kind[found], self._colour[found], self._azimuth[found])


class ClipJudge:
    """The nearest of the texts "a COLOUR KIND", and the pose head's most likely azimuth."""

    def __init__(self, folder: Path) -> None:
        self._reader = ClipReader(folder, torch.device("cpu"))

    def __call__(self, images: Images) -> Verdict:
        cosines, azimuth_logits = self._reader.read(images)
        found, azimuth = cosines.argmax(1), grid_azimuths()[azimuth_logits.argmax(1)]
        return Verdict(found // len(COLOURS), found % len(COLOURS), azimuth)
