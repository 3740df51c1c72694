"""How well a picture shows what a text says, as one number: the protocol, and CLIP's answer."""

from abc import ABC, abstractmethod
from typing import Any

import torch

from sd_core.encoders.model_recipe import model_recipe
from sd_core.shapes import Images, PerSample
from sd_metrics.shared_models import shared_clip


class AbstractReward(ABC):
    """A picture's number does not depend on the other pictures that are asked about with it."""

    @abstractmethod
    def scores(self, images: Images, prompt: str) -> PerSample:
        """Of each picture in about [0, 1], of any size; larger is better."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """What the numbers cannot be reproduced without."""


class ClipReward(AbstractReward):
    """The cosine of the angle between CLIP's embeddings of the picture and the text, -1 to 1.

    It has learned nothing from people's preferences: it says whether the words fit, and little of
    how good the picture is. `model` is a folder, or an id of the hub.
    """

    def __init__(self, model: str, device: torch.device) -> None:
        self._clip = shared_clip(model, device)

    @torch.no_grad()
    def scores(self, images: Images, prompt: str) -> PerSample:
        return self._clip.pictures(images) @ self._clip.texts([prompt])[0]

    def recipe(self) -> dict[str, Any]:
        return {"reward": "clip", "clip": model_recipe(self._clip.model)}
