"""Turntables of toys, and what a metric of the meter says of them."""

import torch

from sd_core.cameras import CameraBatch, turntable
from sd_core.metric import MetricContext
from sd_toybox.meter.orbit_metric import MeterOptions
from sd_toybox.world.kinds import body_colour
from sd_toybox.world.pictures import draw_toy

CONTEXT = MetricContext(torch.device("cpu"))


def ring(count: int = 24, elevation_deg: float = 10.0) -> CameraBatch:
    return turntable(count, elevation_deg=elevation_deg, distance=2.0)


def views_of(toy, colour, cameras, pixels=64):
    body = torch.tensor(body_colour(colour)).expand(len(cameras), 3)
    return draw_toy(toy, body, cameras, pixels)


def measured(metric, images, cameras, prompt="a red bear"):
    """The numbers of a metric's class for one object."""
    made = metric(MeterOptions(), CONTEXT)
    made.update(images, prompt, cameras)
    return made.compute()
