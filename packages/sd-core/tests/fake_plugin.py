"""A plugin for tests: a method that turns sick, and a scene that has several pictures."""

from typing import ClassVar

import torch

from sd_core.camera_sampling import CameraOptions
from sd_core.config import Options, option
from sd_core.entries import GuidanceEntry, RendererEntry
from sd_core.guidance import AbstractGuidance, Guided
from sd_core.hookspecs import hookimpl
from sd_core.renderer import AbstractRenderer, Exported, Rendering


@hookimpl
def sd_guidance_methods():
    return [
        GuidanceEntry("sick", "NaN", "", "fake_plugin:SickOptions", "fake_plugin:Sick"),
        GuidanceEntry("no-options", "Broken", "", "fake_plugin:Sick", "fake_plugin:Sick"),
        GuidanceEntry(
            "no-method", "Broken", "", "fake_plugin:SickOptions", "fake_plugin:no_method"
        ),
    ]


@hookimpl
def sd_renderers():
    return [
        RendererEntry("tiles", "Four", "", "fake_plugin:TilesOptions", "fake_plugin:Tiles"),
        RendererEntry("solid", "Deep", "", "fake_plugin:TilesOptions", "fake_plugin:Solid"),
    ]


class SickOptions(Options):
    """When and where it turns sick."""

    at_step: int = option(3, "The step.", ge=0)
    value: str = option("nan", "What the gradient holds there.")


class Sick(AbstractGuidance):
    """Zero, but NaN for samples 1 and 3 at one step. t = 500, 501, 502, ..."""

    def __init__(self, config, context):
        super().__init__()
        self.config = config

    def gradient(self, latents, cameras, *, step, generator):
        gradient = torch.zeros_like(latents)
        if step.index == self.config.at_step:
            gradient[1::2, 0] = float(self.config.value)
        return Guided(gradient, 500 + torch.arange(len(latents)))


def no_method(config, context):
    return 5


class TilesOptions(Options):
    """How large."""

    side: int = option(8, "Pixels along a side.", ge=1)


class Tiles(AbstractRenderer):
    """One picture for each quarter of the circle."""

    default_cameras: ClassVar[CameraOptions] = CameraOptions(batch=4)

    def __init__(self, config, context):
        super().__init__()
        start = torch.rand(4, 3, config.side, config.side, generator=context.generator)
        self.pictures = torch.nn.Parameter(start)

    def forward(self, cameras):
        quarter = (cameras.azimuth / (torch.pi / 2)).floor().long() % 4
        return Rendering(self.pictures[quarter])


class SolidExportOptions(Options):
    """How often."""

    times: int = option(1, "How often the word is written.", ge=1)


class Solid(AbstractRenderer):
    """Points of the plane that have a depth and normals, begin as an encoded picture, and can be
    written."""

    export_kinds: ClassVar[tuple[str, ...]] = ("txt", "list")
    export_options: ClassVar[type[Options]] = SolidExportOptions

    def __init__(self, config, context):
        super().__init__()
        self.encoded = context.encode(torch.ones(1, *context.latent_shape))
        self.point = torch.nn.Parameter(self.encoded[0].clone())

    def forward(self, cameras):
        return Rendering(self.point.expand(len(cameras), -1, -1, -1))

    def preview(self, cameras):
        height = cameras.azimuth.view(-1, 1, 1, 1).sin().expand(-1, 1, 8, 8)
        opacity = torch.ones_like(height)
        opacity[..., :4] = 0
        grey = (0.5 + 0.4 * height).repeat(1, 3, 1, 1)
        return Rendering(grey, opacity, 2 + height, torch.zeros_like(grey))

    def export(self, kind, name, options):
        text = " ".join(["point"] * options.times).encode()
        values = str(self.point.detach().flatten().tolist()).encode()
        return Exported({f"{name}.{kind}": text, f"{name}.values": values}, ("two files",))
