"""A plugin for tests: metrics of whole methods, and of views of their own."""

from typing import ClassVar

import torch

from sd_core.cameras import turntable
from sd_core.config import Options
from sd_core.entries import MetricEntry
from sd_core.errors import ConfigError
from sd_core.hookspecs import hookimpl
from sd_core.metric import AbstractMetric


@hookimpl
def sd_metrics():
    options = "sd_core.config:Options"
    return [
        MetricEntry("spread", "How unlike", "", options, "together_metrics:Spread"),
        MetricEntry("even", "Whether so many", "", options, "together_metrics:Even"),
        MetricEntry("above", "From above", "", options, "together_metrics:Above"),
        MetricEntry("rude", "Breaks", "", options, "together_metrics:Rude"),
    ]


class Spread(AbstractMetric):
    """How far apart the mean brightness of the objects is, of two or more."""

    scope = "method"

    def __init__(self, config: Options, context):
        self.encoders = context.encoders
        self.reset()

    def update(self, images, prompt, cameras):
        if prompt == "three":
            self.own.append(images.new_ones(1))
            raise ConfigError("'three' is one too many. Leave it out.")
        self.own.append(images.mean(dim=(1, 2, 3)))

    def end_object(self, name):
        self.objects.append(float(torch.cat(self.own).mean()))
        self.own = []

    def drop_object(self):
        self.own = []

    def compute(self):
        if len(self.objects) < 2:
            raise ConfigError("one object alone has no spread. Give several.")
        return {"spread": max(self.objects) - min(self.objects)}

    def recipe(self):
        return {"objects": len(self.objects), "clip": self.encoders.clip}

    def reset(self):
        self.own, self.objects = [], []


class Above(AbstractMetric):
    """The mean elevation of the views, and how much it varies."""

    higher_is_better: ClassVar[bool | None] = True
    needs_cameras: ClassVar[bool] = True

    def __init__(self, config: Options, context):
        self.reset()

    def wanted_cameras(self, *, distance, vertical_fov_deg):
        return turntable(
            3, elevation_deg=60.0, distance=distance, vertical_fov_deg=vertical_fov_deg
        )

    def update(self, images, prompt, cameras):
        self.seen.append(cameras.elevation.rad2deg())

    def compute(self):
        return {"above": round(float(torch.cat(self.seen).mean()), 3)}

    def deviations(self):
        return {"above": float(torch.cat(self.seen).std())}

    def reset(self):
        self.seen = []


class Even(AbstractMetric):
    """1 if the number of pictures is even."""

    higher_is_better: ClassVar[bool | None] = True
    compared_at_equal: ClassVar[tuple[str, ...]] = ("pictures",)

    def __init__(self, config: Options, context):
        self.told = 0
        self.reset()

    def update(self, images, prompt, cameras):
        self.count += len(images)
        self.told = self.count

    def compute(self):
        return {"even": float(self.count % 2 == 0)}

    def recipe(self):
        return {"pictures": self.told}

    def reset(self):
        self.count = 0


class Rude(AbstractMetric):
    """Leaves every picture black, and breaks at a white one."""

    def __init__(self, config: Options, context):
        self.reset()

    def update(self, images, prompt, cameras):
        if bool((images == 1).any()):
            raise RuntimeError("out of memory,\nor so")
        images.zero_()

    def compute(self):
        return {"rude": 1.0}

    def reset(self):
        return
