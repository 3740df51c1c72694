"""What a matching classifier needs: a folder of pictures as an exact prior, and a tiny encoder.

The module is a plugin, too: its scene `plane` is one picture.
"""

import json
from importlib import import_module
from typing import ClassVar

import torch
from PIL import Image
from torch import Generator

from sd_core import hookimpl
from sd_core.camera_sampling import CameraOptions
from sd_core.entries import RendererEntry
from sd_core.pictures import to_bytes
from sd_core.renderer import AbstractRenderer, Rendering

CLASSES = ("front", "side", "back")


@hookimpl
def sd_renderers():
    return [RendererEntry("plane", "One picture", "", "sd_core.config:Options", "tiny_world:Plane")]


class Plane(AbstractRenderer):
    """The same picture from everywhere."""

    default_cameras: ClassVar[CameraOptions] = CameraOptions(batch=2)

    def __init__(self, config, context):
        super().__init__()
        start = torch.rand(context.latent_shape, generator=context.generator)
        self.picture = torch.nn.Parameter(start)

    def forward(self, cameras):
        return Rendering(self.picture.expand(len(cameras), -1, -1, -1))


def bank_folder(folder, *, of_each=2):
    """Pictures of "a toy, front view" and so on, 8 x 8."""
    folder.mkdir()
    pictures = torch.rand(len(CLASSES), of_each, 3, 8, 8, generator=Generator().manual_seed(3))
    captions = {}
    for name, own in zip(CLASSES, pictures, strict=True):
        for index, levels in enumerate(to_bytes(own)):
            Image.fromarray(levels).save(folder / f"{name}{index}.png")
            captions[f"{name}{index}.png"] = [f"a toy, {name} view", "a toy"]
    (folder / "captions.json").write_text(json.dumps(captions), "utf-8")
    return folder


def encoder_folder(folder):
    """A DINOv2 with random weights, saved as the real ones are."""
    transformers = import_module("transformers")  # by name: its types differ between releases
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.Dinov2Model(
            transformers.Dinov2Config(**sizes, image_size=28, patch_size=7)
        )
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    network.save_pretrained(folder)
    content = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 28}}
    (folder / "preprocessor_config.json").write_text(json.dumps(content), "utf-8")
    return folder
