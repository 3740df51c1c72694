"""The judge that never saw the true object's renders: the CLIP model and its pose head."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import interpolate

from sd_core.cameras import CameraBatch
from sd_core.shapes import Images
from sd_toybox.meter.pose_judge import AbstractPoseJudge, PoseReading, ToyName
from sd_toybox.model.pose_head import load_pose_head
from sd_toybox.model.tokenizer import token_rows
from sd_toybox.train.clip import similarities
from sd_toybox.world.kinds import COLOURS, KINDS

_AT_ONCE = 128


class ClipPoseJudge(AbstractPoseJudge):
    """The posterior is the softmax of the pose head's logits.

    The likeness is the model's probability of the kind: of exp(s·cos)/Σ exp(s·cos) over the texts
    "a COLOUR KIND", s the model's own scale, the share of the eight texts of this kind. The
    colour is left out, as distillation shifts it.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        transformers: Any = import_module("transformers")
        self._model: Any = transformers.CLIPModel.from_pretrained(folder, dtype=torch.float32)
        self._model.eval().to(device)
        self._head = load_pose_head(folder).to(device)
        self._size: int = self._model.config.vision_config.image_size
        self._device = device
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
        texts = [f"a {colour} {kind}" for kind in KINDS for colour in COLOURS]
        with torch.no_grad():
            rows = token_rows(tokenizer, texts).to(device)
            self._texts = self._model.text_model(rows).pooler_output

    def read(self, images: Images, named: ToyName, cameras: CameraBatch) -> PoseReading:
        """The cameras are not looked at: the head knows all heights of the world."""
        read = [self._read(some, named) for some in torch.split(images.detach(), _AT_ONCE)]
        return PoseReading(
            torch.cat([each.posterior for each in read]),
            torch.cat([each.likeness for each in read]),
        )

    @torch.no_grad()
    def _read(self, images: Images, named: ToyName) -> PoseReading:
        images = images.to(self._device, torch.float32)
        if images.shape[-1] != self._size:
            images = interpolate(images, self._size, mode="bilinear", antialias=True)
        pooled = self._model.vision_model(2 * images - 1).pooler_output
        cosines = similarities(self._model, pooled, self._texts)
        shares = (self._model.logit_scale.exp() * cosines).softmax(dim=1)
        by_kind = shares.view(-1, len(KINDS), len(COLOURS)).sum(dim=2)
        posterior = self._head(pooled).softmax(dim=1)
        return PoseReading(posterior.cpu(), by_kind[:, KINDS.index(named.kind)].cpu())
