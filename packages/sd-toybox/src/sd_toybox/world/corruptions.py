"""What the words of corruption do to pictures, and what a painting looks like.

Each takes pictures, a strength for each (0 does nothing, 1 is the most) and a generator. Lengths
are shares of the picture's height, so that a size other than 64² looks the same.
"""

from collections.abc import Callable, Sequence
from math import sqrt

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

from sd_core.shapes import Images, PerSample
from sd_toybox.world.captions import PAINTING

Corruption = Callable[[Images, PerSample, Generator], Images]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_WEAKEST = 0.5  # the strength of one corruption is uniform between this and 1
_FOG, _HAZE = (0.80, 0.83, 0.87), (0.86, 0.76, 0.58)
_PAPER = (0.93, 0.86, 0.70)


def corrupted(images: Images, words: Sequence[Sequence[str]], generator: Generator) -> Images:
    """Each picture with the corruptions of its words, and the style where they say so.

    A picture with k corruptions has each of them at 1/√k of its strength, or nothing is left of
    it. They follow each other as in a camera: the object, the colours, the lens, the noise.
    """
    strengths = _WEAKEST + (1 - _WEAKEST) * torch.rand(
        len(images), len(_EFFECTS), generator=generator
    )
    result = images.clone()
    for column, (word, effect) in enumerate(_EFFECTS.items()):
        rows = [row for row, said in enumerate(words) if word in said]
        if rows:
            shared = torch.tensor([len(words[row]) for row in rows]) ** -0.5
            result[rows] = effect(result[rows], strengths[rows, column] * shared, generator)
    return result


def oversaturated(images: Images, strength: PerSample, generator: Generator) -> Images:
    """Grey + (1 + 3s)·(x - grey), cut off at 0 and 1."""
    grey = _grey(images)
    return (grey + (1 + 3 * _wide(strength)) * (images - grey)).clamp(0, 1)


def smooth(images: Images, strength: PerSample, generator: Generator) -> Images:
    """A narrow blur: small things are gone."""
    return _blurred(images, 0.025 * strength)


def blurry(images: Images, strength: PerSample, generator: Generator) -> Images:
    """A wide blur: edges are gone."""
    return _blurred(images, 0.06 * strength)


def pixelated(images: Images, strength: PerSample, generator: Generator) -> Images:
    """Blocks of one colour, up to a tenth of the picture large."""
    height, width = images.shape[-2:]
    rows = []
    for image, share in zip(images[:, None], strength.tolist(), strict=True):
        blocks = max(1, round(height / (1 + 0.1 * height * share)))
        small = F.interpolate(image, (blocks, blocks), mode="area")
        rows.append(F.interpolate(small, (height, width), mode="nearest"))
    return torch.cat(rows)


def cartoon(images: Images, strength: PerSample, generator: Generator) -> Images:
    """Few levels of brightness, and a dark line where it changes."""
    levels = (5 - 2 * _wide(strength)).round()
    brightest = images.amax(1, keepdim=True).clamp_min(1 / 255)
    flat = images / brightest * (brightest * levels).ceil() / levels
    grey = F.pad(_grey(images), (1, 1, 1, 1), mode="replicate")
    across = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
    down = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    line = (3 * torch.hypot(across, down)).clamp(0, 1)
    share = (1.5 * _wide(strength)).clamp(0, 1)
    return images.lerp(flat * (1 - line), share)


def foggy(images: Images, strength: PerSample, generator: Generator) -> Images:
    """A cool light grey before everything."""
    return images.lerp(_filled(images, _FOG), 0.8 * _wide(strength))


def hazy(images: Images, strength: PerSample, generator: Generator) -> Images:
    """A warm grey before everything, thinner than fog."""
    return images.lerp(_filled(images, _HAZE), 0.6 * _wide(strength))


def bad_structure(images: Images, strength: PerSample, generator: Generator) -> Images:
    """The picture on a cloth that was pulled about: a smooth random field moves its pixels."""
    pulls = torch.randn(len(images), 2, 5, 5, generator=generator)
    field = F.interpolate(pulls, images.shape[-2:], mode="bicubic", align_corners=True)
    return _moved(images, 0.14 * _wide(strength) * field)


def malformed(images: Images, strength: PerSample, generator: Generator) -> Images:
    """Cut across into four bands that slip to the left and to the right, in turn."""
    height, width = images.shape[-2:]
    cuts = torch.rand(len(images), 3, generator=generator)
    cuts = 0.2 + 0.2 * (torch.arange(3) + cuts)
    slips = 0.5 + 0.5 * torch.rand(len(images), 4, generator=generator)
    slips = slips * torch.tensor([1.0, -1.0, 1.0, -1.0])
    row = (torch.arange(height) + 0.5) / height
    band = (row > cuts[:, :, None]).sum(1)
    slip = 0.25 * strength[:, None] * slips.gather(1, band)
    across = slip[:, None, :, None].expand(-1, 1, -1, width)
    return _moved(images, torch.cat([across, torch.zeros_like(across)], dim=1))


def noisy(images: Images, strength: PerSample, generator: Generator) -> Images:
    """x + 0.3·s·N(0, 1) for each pixel and colour."""
    noise = torch.randn(images.shape, generator=generator)
    return (images + 0.3 * _wide(strength) * noise).clamp(0, 1)


def painting(images: Images, strength: PerSample, generator: Generator) -> Images:
    """Warm thick paint on yellowed paper, in slanting strokes that drag the edges along."""
    height, width = images.shape[-2:]
    strokes = _strokes(len(images), height, width, generator)
    dragged = _moved(images, 0.04 * strokes * images.new_tensor([1.0, -1.0])[:, None, None])
    few = (dragged * 5).round() / 5
    warm = 0.12 * images.new_tensor([1.0, 0.3, -1.0])[:, None, None]
    painted = _filled(images, _PAPER) * (0.15 + 0.85 * few) + warm * (1 - _grey(dragged))
    return images.lerp((painted + 0.07 * strokes).clamp(0, 1), _wide(strength).clamp(0, 1))


# In the order in which they are applied.
_EFFECTS: dict[str, Corruption] = {
    "bad structure": bad_structure,
    "malformed": malformed,
    PAINTING: painting,
    "oversaturated": oversaturated,
    "cartoon": cartoon,
    "smooth": smooth,
    "blurry": blurry,
    "pixelated": pixelated,
    "foggy": foggy,
    "hazy": hazy,
    "noisy": noisy,
}


def _wide(values: PerSample) -> Float[Tensor, "batch 1 1 1"]:
    return values[:, None, None, None]


def _grey(images: Images) -> Float[Tensor, "batch 1 height width"]:
    return (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)


def _filled(images: Images, colour: tuple[float, float, float]) -> Images:
    return images.new_tensor(colour)[:, None, None].expand_as(images)


def _blurred(images: Images, spread: PerSample) -> Images:
    """A Gaussian blur with a standard deviation of its own for each picture."""
    batch, channels, height, width = images.shape
    reach = max(1, round(3 * height * float(spread.max())))
    steps = torch.arange(-reach, reach + 1) / height
    kernel = torch.exp(-0.5 * (steps / spread.clamp_min(1e-3)[:, None]).square())
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, dim=0)
    planes = images.reshape(1, batch * channels, height, width)
    planes = F.pad(planes, (reach,) * 4, mode="replicate")
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=batch * channels)
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=batch * channels)
    return planes.view_as(images)


def _moved(images: Images, shift: Float[Tensor, "batch 2 height width"]) -> Images:
    """Pixels taken from `shift` away: to the right and down, in half picture heights."""
    height, width = images.shape[-2:]
    down = (2 * torch.arange(height) + 1) / height - 1
    along = (2 * torch.arange(width) + 1) / width - 1
    grid = torch.stack(torch.meshgrid(along, down, indexing="xy"), dim=-1)
    return F.grid_sample(
        images, grid + shift.permute(0, 2, 3, 1), padding_mode="border", align_corners=False
    )


def _strokes(
    count: int, height: int, width: int, generator: Generator
) -> Float[Tensor, "count 1 height width"]:
    """Noise smeared along the diagonal, mean 0 and deviation 1: Σ_k n(i - k, j + k)."""
    length = max(2, height // 7)
    noise = torch.randn(count, 1, height + length, width + length, generator=generator)
    kernel = torch.eye(length + 1).flip(0)[None, None]
    return F.conv2d(noise, kernel) / sqrt(length + 1)
