"""Disturbed copies of templates, so that a feature's mean says what all of them share.

RecDreamer, appendix B.1.4, with the values of its released code. Pictures are never mirrored: that
would make left of right.
"""

from math import pi, radians

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample

Pictures = Float[Tensor, "batch 3 height width"]
PerPicture = Float[Tensor, "batch"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def noise_and_shape(pictures: Pictures, generator: Generator) -> Pictures:
    """For global tokens: an affine map, grey for one in five, noise for one in two."""
    pictures = random_affine(pictures, generator)
    pictures = random_grey(pictures, generator, probability=0.2)
    return random_noise(pictures, generator, sigma=0.2, probability=0.5)


def colour_jitter(pictures: Pictures, generator: Generator) -> Pictures:
    """For patches, which must stay where they are: brightness, contrast, saturation ± 20 %, hue.

    The hue turns by up to ± 0.1 of the colour circle. In [0, 1] again afterwards.
    """
    brightness, contrast, saturation = (
        _uniform(pictures, generator, 0.8, 1.2)[:, None, None, None] for _ in range(3)
    )
    angle = 2 * pi * _uniform(pictures, generator, -0.1, 0.1)
    pictures = (brightness * pictures).clamp(0, 1)
    mean = grey(pictures).mean(dim=(1, 2, 3), keepdim=True)
    pictures = (mean + contrast * (pictures - mean)).clamp(0, 1)
    pictures = grey(pictures) + saturation * (pictures - grey(pictures))
    return turn_hue(pictures.clamp(0, 1), angle).clamp(0, 1)


def random_noise(
    pictures: Pictures, generator: Generator, *, sigma: float, probability: float
) -> Pictures:
    """x + σ·N(0, 1), in some of the pictures."""
    noise = torch.randn(pictures.shape, generator=generator, device=generator.device)
    noisy = (pictures + sigma * noise.to(pictures)).clamp(0, 1)
    return torch.where(_coin(pictures, generator, probability), noisy, pictures)


def random_grey(pictures: Pictures, generator: Generator, *, probability: float) -> Pictures:
    """Some of the pictures without their colours."""
    chosen = _coin(pictures, generator, probability)
    return torch.where(chosen, grey(pictures).expand_as(pictures), pictures)


def random_affine(
    pictures: Pictures,
    generator: Generator,
    *,
    shift: float = 0.2,
    scale: tuple[float, float] = (0.8, 1.2),
    shear_deg: tuple[float, float] = (1.0, 5.0),
) -> Pictures:
    """Moved by up to ± `shift` of the picture both ways, scaled, and sheared sideways.

    What comes into sight repeats the border. The shear goes either way, so that neither side is
    favoured; the released code shears one way.
    """
    size = _uniform(pictures, generator, *scale)
    slope = torch.tan(_uniform(pictures, generator, radians(shear_deg[0]), radians(shear_deg[1])))
    slope = slope * _uniform(pictures, generator, -1.0, 1.0).sign()
    right, down = (_uniform(pictures, generator, -shift, shift) for _ in range(2))
    return affine(pictures, size=size, slope=slope, right=right, down=down)


def affine(
    pictures: Pictures, *, size: PerPicture, slope: PerPicture, right: PerPicture, down: PerPicture
) -> Pictures:
    """What stood at (x, y) stands at size·(x + slope·y, y) + (right, down).

    y points down; the origin is the middle. `right` and `down` are shares of the picture. What
    comes into sight repeats the border.
    """
    # grid_sample wants the way back, in units of half a picture.
    along, across = 2 * right, 2 * down
    back = torch.stack(
        [
            torch.stack([1 / size, -slope / size, (slope * across - along) / size], dim=-1),
            torch.stack([torch.zeros_like(size), 1 / size, -across / size], dim=-1),
        ],
        dim=1,
    )
    grid = affine_grid(back, list(pictures.shape), align_corners=False)
    return grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def grey(pictures: Pictures) -> Float[Tensor, "batch 1 height width"]:
    """0.299·R + 0.587·G + 0.114·B."""
    return (pictures * pictures.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)


def turn_hue(pictures: Pictures, angle: PerPicture) -> Pictures:
    """Colours turned about the grey axis k = (1, 1, 1)/√3 by an angle in radians, red to green.

    x·cos a + (k × x)·sin a + k·(k·x)·(1 - cos a), Rodrigues' formula. A third of a turn makes
    red of blue, green of red and blue of green.
    """
    cos, sin = (wave(angle)[:, None, None, None] for wave in (torch.cos, torch.sin))
    red, green, blue = pictures.unbind(dim=1)
    crossed = torch.stack([blue - green, red - blue, green - red], dim=1) / 3**0.5
    return pictures * cos + crossed * sin + pictures.mean(dim=1, keepdim=True) * (1 - cos)


def _uniform(pictures: Pictures, generator: Generator, low: float, high: float) -> PerPicture:
    unit = torch.rand(len(pictures), generator=generator, device=generator.device)
    return (low + (high - low) * unit).to(pictures)


def _coin(pictures: Pictures, generator: Generator, probability: float) -> Tensor:
    """True with this probability, one for each picture."""
    return (_uniform(pictures, generator, 0.0, 1.0) < probability)[:, None, None, None]
