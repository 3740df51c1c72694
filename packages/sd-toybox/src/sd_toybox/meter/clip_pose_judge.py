"""The judge that never saw the true object's renders: the CLIP model and its pose head."""

from pathlib import Path

import torch

from sd_core.cameras import CameraBatch
from sd_core.shapes import Images
from sd_toybox.meter.pose_judge import AbstractPoseJudge, PoseReading, ToyName
from sd_toybox.model.clip_reader import ClipReader
from sd_toybox.world.kinds import COLOURS, KINDS


class ClipPoseJudge(AbstractPoseJudge):
    """The posterior is the softmax of the pose head's logits.

    The likeness is the model's probability of the kind: of exp(s·cos)/Σ exp(s·cos) over the texts
    "a COLOUR KIND", s the model's own scale, the share of the eight texts of this kind. The
    colour is left out, as distillation shifts it.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._reader = ClipReader(folder, device)

    def read(self, images: Images, named: ToyName, cameras: CameraBatch) -> PoseReading:
        """The cameras are not looked at: the head knows all heights of the world."""
        cosines, azimuth_logits = self._reader.read(images)
        shares = (self._reader.logit_scale * cosines).softmax(dim=1)
        by_kind = shares.view(-1, len(KINDS), len(COLOURS)).sum(dim=2)
        return PoseReading(azimuth_logits.softmax(dim=1), by_kind[:, KINDS.index(named.kind)])
