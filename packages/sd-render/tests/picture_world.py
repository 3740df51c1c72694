"""Small scenes of pictures, and what their tests compare them with."""

import numpy as np
import torch
from PIL import Image
from torch import Generator

from sd_core.camera_sampling import sample_cameras
from sd_core.renderer import RendererContext
from sd_render.picture import Picture, PictureOptions

LATENTS = (4, 8, 8)


def context(shape=LATENTS, seed=0, **parts):
    return RendererContext(shape, Generator().manual_seed(seed), torch.device("cpu"), **parts)


def scene(shape=LATENTS, previous=None, **options):
    return Picture(PictureOptions(**options), context(shape, previous=previous))


def views(picture, count):
    options = picture.default_cameras.model_copy(update={"batch": count})
    return sample_cameras(options, Generator().manual_seed(1))


def photograph(height, width, seed=5):
    return torch.rand(3, height, width, generator=Generator().manual_seed(seed))


def file_of(folder, height, width):
    """A file, and what it holds."""
    levels = (photograph(height, width) * 255).round()
    path = folder / f"{height}x{width}.png"
    Image.fromarray(levels.permute(1, 2, 0).numpy().astype(np.uint8)).save(path)
    return str(path), levels / 255
