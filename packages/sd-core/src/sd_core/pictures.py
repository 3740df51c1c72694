"""Pictures for people: contact sheets, turntables, PNG and mp4."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from sd_core.atomic import disk_errors
from sd_core.shapes import Images


def to_bytes(images: Images) -> UInt8[np.ndarray, "batch height width 3"]:
    """[b 3 H W] in [0, 1] → rows of 8-bit RGB pictures."""
    levels = (images.detach().float().cpu().clamp(0, 1) * 255).round().byte()
    return levels.permute(0, 2, 3, 1).numpy()


def contact_sheet(images: Images, columns: int) -> Tensor:
    """Pictures side by side, row after row, on white: [1 3 rows·H columns·W]."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = images.new_ones(rows * columns, channels, height, width)
    sheet[:count] = images
    grid = sheet.view(rows, columns, channels, height, width)
    return grid.permute(2, 0, 3, 1, 4).reshape(1, channels, rows * height, columns * width)


def depth_pictures(
    depth: Float[Tensor, "batch 1 height width"], opacity: Float[Tensor, "batch 1 height width"]
) -> Images:
    """Grey: what is near is bright, on one scale for all pictures; black where there is nothing."""
    seen = depth[opacity > 0.5]
    if len(seen) == 0:
        return torch.zeros_like(depth).repeat(1, 3, 1, 1)
    near, far = seen.min(), seen.max()
    # Nothing that is seen is as dark as nothing.
    grey = 1 - 0.8 * (depth - near) / (far - near).clamp_min(1e-6)
    return (grey.clamp(0, 1) * (opacity > 0.5)).repeat(1, 3, 1, 1)


def normal_pictures(
    normals: Float[Tensor, "batch 3 height width"], opacity: Float[Tensor, "batch 1 height width"]
) -> Images:
    """(n + 1)/2 as red, green and blue for x, y and z of the world; black where there is nothing.

    What faces the front is reddish, what faces up bluish.
    """
    return (normals + 1) / 2 * opacity


def enlarge(images: Images, pixels: int) -> Float[Tensor, "batch channels rows columns"]:
    """By a whole factor, until the smaller side has at least `pixels`; pixels stay square."""
    factor = max(1, -(-pixels // min(images.shape[-2:])))
    return images.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def save_png(path: Path, image: Images) -> None:
    """The first picture of the batch, written aside and renamed."""
    with disk_errors(path):
        aside = path.with_name(f".{path.name}.partial")
        Image.fromarray(to_bytes(image)[0]).save(aside, format="PNG")
        aside.replace(path)


def save_video(path: Path, images: Images, frames_per_second: int = 24) -> None:
    """An mp4 with the ffmpeg that imageio brings along; even sides, as H.264 asks."""
    import imageio.v2 as imageio  # slow to import, and only a finished run needs it
    import imageio_ffmpeg  # type: ignore[import-untyped]

    frames = to_bytes(enlarge(images, 256))
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
    with disk_errors(path):
        aside = path.with_name(f".partial-{path.name}")
        with imageio.get_writer(
            aside, fps=frames_per_second, codec="libx264", macro_block_size=1, quality=8
        ) as writer:
            for frame in frames[:, :height, :width]:
                writer.append_data(frame)  # type: ignore[attr-defined]
        # imageio says nothing when ffmpeg fails, for want of space say.
        try:
            written, _ = imageio_ffmpeg.count_frames_and_secs(str(aside))
        except RuntimeError:
            written = 0
        if written != len(frames):
            aside.unlink(missing_ok=True)
            raise OSError(f"ffmpeg wrote {written} of {len(frames)} frames; the disk may be full")
        aside.replace(path)
