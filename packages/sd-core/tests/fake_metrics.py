"""A plugin for tests: metrics whose numbers are easily told from the views."""

from math import degrees
from typing import ClassVar

import torch

from sd_core.config import Options, option
from sd_core.entries import MetricEntry
from sd_core.errors import ConfigError
from sd_core.hookspecs import hookimpl
from sd_core.metric import AbstractMetric


@hookimpl
def sd_metrics():
    return [
        MetricEntry("glow", "How bright", "", "fake_metrics:GlowOptions", "fake_metrics:Glow"),
        MetricEntry("picky", "Words", "", "fake_metrics:PickyOptions", "fake_metrics:Picky"),
    ]


class GlowOptions(Options):
    """How much brighter."""

    gain: float = option(1.0, "What the brightness is multiplied by.", gt=0)


class Glow(AbstractMetric):
    """The brightness of all views, and of the brightest one, with its azimuth in degrees."""

    higher_is_better: ClassVar[bool | None] = True
    needs_cameras: ClassVar[bool] = True

    def __init__(self, config, context):
        self.config, self.device = config, context.device
        self.reset()

    def update(self, images, prompt, cameras):
        assert not torch.is_grad_enabled() and not self.images
        assert images.device == cameras.azimuth.device == self.device
        self.images.append(self.config.gain * images.mean(dim=(1, 2, 3)))
        self.azimuths.append(cameras.azimuth)

    def compute(self):
        values, azimuths = torch.cat(self.images), torch.cat(self.azimuths)
        top = int(values.argmax())
        return {"mean": float(values.mean()), "top": round(degrees(azimuths[top]), 3)}

    def reset(self):
        self.images, self.azimuths = [], []


class PickyOptions(Options):
    """What it knows."""

    word: str = option("two", "The word that a prompt must hold.")


class Picky(AbstractMetric):
    """How many views there are, of a prompt with the word."""

    def __init__(self, config, context):
        self.config, self.count = config, 0

    def update(self, images, prompt, cameras):
        self.count += len(images)
        if self.config.word not in prompt:
            raise ConfigError(f"'{prompt}' lacks '{self.config.word}'. Use it.")

    def compute(self):
        return {"mean": float(self.count)}

    def reset(self):
        self.count = 0
