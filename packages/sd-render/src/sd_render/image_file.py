"""A picture from a file, for a scene that begins as one."""

import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from sd_core.errors import ConfigError

Picture = Float[Tensor, "3 height width"]
Fitted = Float[Tensor, "3 rows columns"]
Fit = Literal["refuse", "resize", "crop"]

# 8 bits a channel; what each means is beyond doubt.
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
_SAVE_AS = "Save it as an 8-bit RGB PNG"
# What PIL raises on damaged files, found by damaging files of all its kinds.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_image(path: Path) -> Picture:
    """The file's RGB levels in [0, 1], upright as its EXIF orientation says.

    Transparency is laid over white: c' = α·c + (1 - α). Levels are taken as they are: a colour
    profile in the file is not applied.
    """
    try:
        with Image.open(path) as file:
            _refuse_unsuitable(path, file)
            upright = ImageOps.exif_transpose(file).convert("RGBA")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"image '{path}' does not exist. Give the path of a PNG, JPEG or WebP file."
        ) from None
    except IsADirectoryError:
        raise ConfigError(
            f"image '{path}' is a folder. Give the path of one picture in it."
        ) from None
    except PermissionError:
        raise ConfigError(f"image '{path}' may not be read. Check its permissions.") from None
    except UnidentifiedImageError:
        raise ConfigError(
            f"image '{path}' is not a picture, or of an unknown kind. Give a PNG, JPEG or WebP "
            "file."
        ) from None
    except _DAMAGE as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"image '{path}' cannot be read: {reason}. It may be damaged or cut short: copy it "
            "again, or save it anew with another program."
        ) from None
    levels = torch.from_numpy(np.array(upright)).permute(2, 0, 1).float() / 255
    colour, opacity = levels[:3], levels[3:]
    return opacity * colour + (1 - opacity)


def fitted(image: Picture, height: int, width: int, fit: Fit) -> Fitted:
    """The picture in another size: stretched (`resize`), or its middle part (`crop`)."""
    old_height, old_width = image.shape[1:]
    if (old_height, old_width) == (height, width):
        return image
    if fit == "refuse":
        raise ConfigError(
            f"the image is {old_height} pixels high and {old_width} wide, but the scene wants "
            f'{height} high and {width} wide. Set fit = "resize" to stretch it, fit = "crop" to '
            "take its middle, or give an image of that size."
        )
    if fit == "resize":
        return resized(image[None], height, width)[0]
    scale = max(height / old_height, width / old_width)
    rows = max(height, round(scale * old_height))
    columns = max(width, round(scale * old_width))
    top, left = (rows - height) // 2, (columns - width) // 2
    covering = resized(image[None], rows, columns)[0]
    return covering[:, top : top + height, left : left + width]


def resized(
    images: Float[Tensor, "batch 3 height width"], height: int, width: int
) -> Float[Tensor, "batch 3 rows columns"]:
    """Bicubic, smoothed where it gets smaller, and clamped: the cubic overshoots at edges."""
    if tuple(images.shape[-2:]) == (height, width):
        return images
    larger: Tensor = interpolate(images, (height, width), mode="bicubic", antialias=True)
    return larger.clamp(0, 1)


def _refuse_unsuitable(path: Path, file: Image.Image) -> None:
    """What would be read otherwise than its maker meant it."""
    # Phones add a preview or a second eye to their JPEGs (MPO); the first picture is the picture.
    frames = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
    if frames > 1:
        raise ConfigError(
            f"image '{path}' has {frames} frames, expected a single picture. Save the one you "
            "want as a PNG."
        )
    # PIL drops the lower half of 16-bit RGB without a word; only the tiles to be read tell of it.
    tiles = file.tile if isinstance(file, ImageFile.ImageFile) else []
    if file.mode.startswith("I") or any(";16" in str(tile[3]) for tile in tiles):
        raise ConfigError(f"image '{path}' has 16 or more bits a channel, expected 8. {_SAVE_AS}.")
    if file.mode not in _MODES:
        raise ConfigError(
            f"image '{path}' has colours of mode {file.mode}, expected grey or RGB. {_SAVE_AS}."
        )
