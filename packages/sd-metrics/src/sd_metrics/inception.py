"""InceptionV3 as FID uses it: the network of 2015, with the weights in a file that the user has.

Szegedy et al. 2015 (arXiv:1512.00567), in the form of TensorFlow's graph `inception-2015-12-05`:
no auxiliary head, 1008 classes, average pools that do not count the padding, and a maximum instead
of an average in the last block. Names are torchvision's, so that the file that pytorch-fid brings
(pt_inception-2015-12-05-6726825d.pth) fits, and so does the same as .safetensors.
"""

from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from sd_core.errors import ConfigError
from sd_core.shapes import Images
from sd_metrics.moments import PictureFeatures

SIZE: Final = 299
WIDTH: Final = 2048
CLASSES: Final = 1008

_Maps = Float[Tensor, "batch channels rows columns"]
_Made = Float[Tensor, "batch made made_rows made_columns"]
_Shape = int | tuple[int, int]
_EXPECTED = "Give pytorch-fid's pt_inception-2015-12-05-6726825d.pth, or the same as .safetensors."


class InceptionV3(nn.Module):
    """Pictures of any size in [0, 1] → features of the last pool, and of these class scores.

    Pictures are resized to 299² (bilinear, not antialiased: as published numbers have it) and
    brought to [-1, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3)
        self.Mixed_5b = _Fives(192, pool=32)
        self.Mixed_5c = _Fives(256, pool=64)
        self.Mixed_5d = _Fives(288, pool=64)
        self.Mixed_6a = _ThreesHalved(288)
        self.Mixed_6b = _Sevens(128)
        self.Mixed_6c = _Sevens(160)
        self.Mixed_6d = _Sevens(160)
        self.Mixed_6e = _Sevens(192)
        self.Mixed_7a = _SevensHalved()
        self.Mixed_7b = _Wide(1280)
        self.Mixed_7c = _WideWithMaximum(2048)
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Images) -> PictureFeatures:
        """The features that FID compares."""
        x = interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False)
        x = self.Conv2d_1a_3x3(2 * x - 1)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(x))
        x = self.Conv2d_3b_1x1(max_pool2d(x, 3, stride=2))
        x = max_pool2d(self.Conv2d_4a_3x3(x), 3, stride=2)
        for name, block in self.named_children():
            if name.startswith("Mixed_"):
                x = block(x)
        return x.mean(dim=(2, 3))

    def probabilities(self, images: Images) -> Float[Tensor, "pictures classes"]:
        """Over the 1008 classes of 2015, of which a few are never used."""
        scores: Tensor = self.fc(self(images))
        return scores.softmax(dim=1)


def load_inception(path: Path, device: torch.device) -> InceptionV3:
    """The network with the weights of a file, frozen; every one of them must be there and fit."""
    weights = _read(path)
    network = InceptionV3()
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:  # its first line names no key, its second may name hundreds
        reason = " ".join(str(error).split("\n\t")[1:2])[:160].rstrip(" .,")
        raise _cannot_load(path, f"it is not InceptionV3 ({reason})") from None
    return network.eval().requires_grad_(False).to(device)


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by name; a pickle is read without running what it holds."""
    if not path.is_file():
        raise _cannot_load(path, "there is no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise _cannot_load(path, " ".join(str(error).split())[:160].rstrip(".")) from None
    except Exception:  # pickle's own errors are of any class, and their texts advise to run it
        raise _cannot_load(path, "it holds no tensors that can be read safely") from None
    if not isinstance(found, dict) or not all(isinstance(each, Tensor) for each in found.values()):
        raise _cannot_load(path, "it holds no table of tensors")
    return dict(found)


def _cannot_load(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"cannot load the Inception weights '{path}': {reason}. {_EXPECTED}")


class _Convolution(nn.Module):
    """Convolution, batch normalisation, max(0, x)."""

    def __init__(
        self, inside: int, out: int, kernel: _Shape, *, stride: int = 1, padding: _Shape = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: _Maps) -> _Made:
        found: Tensor = self.bn(self.conv(x))
        return found.relu()


def _along(inside: int, out: int, width: int) -> _Convolution:
    """1 x `width`, as large as before."""
    return _Convolution(inside, out, (1, width), padding=(0, width // 2))


def _down(inside: int, out: int, height: int) -> _Convolution:
    """`height` x 1, as large as before."""
    return _Convolution(inside, out, (height, 1), padding=(height // 2, 0))


def _average(x: _Maps) -> _Maps:
    """Of 3 x 3, of fewer at the border."""
    return avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class _Fives(nn.Module):
    """The blocks at 35 x 35."""

    def __init__(self, inside: int, *, pool: int) -> None:
        super().__init__()
        self.branch1x1 = _Convolution(inside, 64, 1)
        self.branch5x5_1 = _Convolution(inside, 48, 1)
        self.branch5x5_2 = _Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Convolution(inside, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, padding=1)
        self.branch_pool = _Convolution(inside, pool, 1)

    def forward(self, x: _Maps) -> _Made:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(_average(x))], dim=1)


class _ThreesHalved(nn.Module):
    """From 35 x 35 to 17 x 17."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3 = _Convolution(inside, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Convolution(inside, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, stride=2)

    def forward(self, x: _Maps) -> _Made:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, max_pool2d(x, 3, stride=2)], dim=1)


class _Sevens(nn.Module):
    """The blocks at 17 x 17; `between` channels within the branches."""

    def __init__(self, between: int) -> None:
        super().__init__()
        self.branch1x1 = _Convolution(768, 192, 1)
        self.branch7x7_1 = _Convolution(768, between, 1)
        self.branch7x7_2 = _along(between, between, 7)
        self.branch7x7_3 = _down(between, 192, 7)
        self.branch7x7dbl_1 = _Convolution(768, between, 1)
        self.branch7x7dbl_2 = _down(between, between, 7)
        self.branch7x7dbl_3 = _along(between, between, 7)
        self.branch7x7dbl_4 = _down(between, between, 7)
        self.branch7x7dbl_5 = _along(between, 192, 7)
        self.branch_pool = _Convolution(768, 192, 1)

    def forward(self, x: _Maps) -> _Made:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], dim=1)


class _SevensHalved(nn.Module):
    """From 17 x 17 to 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = _Convolution(768, 192, 1)
        self.branch3x3_2 = _Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Convolution(768, 192, 1)
        self.branch7x7x3_2 = _along(192, 192, 7)
        self.branch7x7x3_3 = _down(192, 192, 7)
        self.branch7x7x3_4 = _Convolution(192, 192, 3, stride=2)

    def forward(self, x: _Maps) -> _Made:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), max_pool2d(x, 3, stride=2)], dim=1)


class _Wide(nn.Module):
    """The blocks at 8 x 8."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch1x1 = _Convolution(inside, 320, 1)
        self.branch3x3_1 = _Convolution(inside, 384, 1)
        self.branch3x3_2a = _along(384, 384, 3)
        self.branch3x3_2b = _down(384, 384, 3)
        self.branch3x3dbl_1 = _Convolution(inside, 448, 1)
        self.branch3x3dbl_2 = _Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _along(384, 384, 3)
        self.branch3x3dbl_3b = _down(384, 384, 3)
        self.branch_pool = _Convolution(inside, 192, 1)

    def forward(self, x: _Maps) -> _Made:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self._pooled(x)),
        ]
        return torch.cat(parts, dim=1)

    def _pooled(self, x: _Maps) -> _Maps:
        return _average(x)


class _WideWithMaximum(_Wide):
    """The last one, which pools the maximum."""

    def _pooled(self, x: _Maps) -> _Maps:
        return max_pool2d(x, 3, stride=1, padding=1)
