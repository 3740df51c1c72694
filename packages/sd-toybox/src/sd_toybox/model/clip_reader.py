"""What the CLIP model of a folder says of pictures: which text fits, and from where it is seen."""

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from sd_core.shapes import Images
from sd_toybox.model.pose_head import load_pose_head
from sd_toybox.model.tokenizer import token_rows
from sd_toybox.world.kinds import COLOURS, KINDS

_AT_ONCE = 128


class ClipReading(NamedTuple):
    """Cosines with the texts "a COLOUR KIND", colours in turn, and the pose head's logits."""

    cosines: Float[Tensor, "pictures 64"]
    azimuth_logits: Float[Tensor, "pictures 24"]


class ClipReader:
    """The model, its pose head, and the 64 texts as it reads them."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        transformers: Any = import_module("transformers")
        self.model: Any = transformers.CLIPModel.from_pretrained(folder, dtype=torch.float32)
        self.model.eval().to(device)
        self.head = load_pose_head(folder).to(device)
        self._device = device
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
        texts = [f"a {colour} {kind}" for kind in KINDS for colour in COLOURS]
        with torch.no_grad():
            rows = token_rows(tokenizer, texts).to(device)
            self.texts: Tensor = self.model.text_model(rows).pooler_output

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by before a softmax."""
        return float(self.model.logit_scale.detach().exp())

    @torch.no_grad()
    def read(self, images: Images) -> ClipReading:
        """Of pictures in [0, 1] of any size; the answer is on the CPU."""
        read = [self._read(some) for some in torch.split(images.detach(), _AT_ONCE)]
        cosines, azimuth_logits = (torch.cat(parts).cpu() for parts in zip(*read, strict=True))
        return ClipReading(cosines, azimuth_logits)

    def _read(self, images: Images) -> tuple[Tensor, Tensor]:
        size: int = self.model.config.vision_config.image_size
        images = images.to(self._device, torch.float32)
        if images.shape[-1] != size:
            images = interpolate(images, size, mode="bilinear", antialias=True)
        pooled = self.model.vision_model(2 * images - 1).pooler_output
        return similarities(self.model, pooled, self.texts), self.head(pooled)


def similarities(
    clip: Any, pictures: Float[Tensor, "pictures width"], texts: Float[Tensor, "texts text_width"]
) -> Float[Tensor, "pictures texts"]:
    """Cosines of the projections of two transformers' pooled outputs."""
    in_common = clip.visual_projection(pictures), clip.text_projection(texts)
    of_pictures, of_texts = (vectors / vectors.norm(dim=-1, keepdim=True) for vectors in in_common)
    cosines: Tensor = of_pictures @ of_texts.T
    return cosines
