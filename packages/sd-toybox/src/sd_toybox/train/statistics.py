"""Numbers of pictures: how colourful, how sharp, how noisy, and how near to another."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import unfold

from sd_core.shapes import Images, PerSample

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_BLOCK = 4  # pixels


def saturation(images: Images) -> PerSample:
    """The mean over the pixels of the largest colour minus the smallest."""
    return (images.amax(1) - images.amin(1)).mean((1, 2))


def sharpness(images: Images) -> PerSample:
    """The mean of the steepest 5 % of the slopes |∂_j| + |∂_i| of the brightness, per pixel."""
    grey = _brightness(images)
    along = (grey[:, :-1, 1:] - grey[:, :-1, :-1]).abs()
    down = (grey[:, 1:, :-1] - grey[:, :-1, :-1]).abs()
    slopes = (along + down).flatten(1)
    return slopes.topk(max(1, slopes.shape[1] // 20), dim=1).values.mean(1)


def noisiness(images: Images) -> PerSample:
    """The median over blocks of 4² of the deviation of the brightness in a block.

    Most blocks of these pictures are background or plain body: without noise they are even.
    """
    blocks: Tensor = unfold(_brightness(images)[:, None], _BLOCK, stride=_BLOCK)
    return blocks.std(1).median(1).values


def psnr(images: Images, others: Images) -> PerSample:
    """-10·log10 of the mean square difference: decibels, for pictures in [0, 1]."""
    return -10 * (images - others).square().mean((1, 2, 3)).clamp_min(1e-10).log10()


def _brightness(images: Images) -> Float[Tensor, "batch height width"]:
    return (images * images.new_tensor(_LUMA)[:, None, None]).sum(1)
