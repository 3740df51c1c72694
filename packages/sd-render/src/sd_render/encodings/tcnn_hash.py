"""The hash grid of tiny-cuda-nn, where it is installed: the fastest on a CUDA device."""

from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import pad

from sd_render.encodings.eager_hash import Features, Points
from sd_render.encodings.hash_layout import HashLayout

# Not on PyPI, hence in none of our extras.
MODULE = "tinycudann"
INSTALL = "pip install git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch"


def obstacle(device: torch.device) -> str | None:
    """Why tiny-cuda-nn cannot be used for a device."""
    if device.type != "cuda":
        return f"the scene is on {device.type}, and it needs a CUDA device"
    try:
        _load()
    except (ImportError, OSError) as error:  # OSError: built for other devices than this one
        return f"it cannot be imported ({(str(error) or repr(error)).splitlines()[0]})"
    return None


class TcnnHash(nn.Module):
    """Its parameter is its own, uniform in ±1e-4 too, in an order that no other backend reads.

    Differentiates twice in the points and the table. It has no levels to leave out.
    """

    def __init__(self, layout: HashLayout, generator: Generator, device: torch.device) -> None:
        super().__init__()
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        encoding: Any = _load().Encoding(3, configuration(layout), seed=seed, dtype=torch.float32)
        self.encoding: nn.Module = encoding.to(device)

    def forward(self, points: Points) -> Features:
        # Of no points its gradient is memory that nobody wrote to. One is asked, and not kept.
        asked = points if len(points) else pad(points, (0, 0, 0, 1))
        features: Tensor = self.encoding(asked)[: len(points)]
        return features


def configuration(layout: HashLayout) -> dict[str, str | int | float]:
    """A layout in the words of tiny-cuda-nn's documentation."""
    return {
        "otype": "HashGrid",
        "n_levels": layout.levels,
        "n_features_per_level": layout.features,
        "log2_hashmap_size": layout.log2_table,
        "base_resolution": layout.base_resolution,
        "per_level_scale": layout.growth,
        "interpolation": "Smoothstep" if layout.smooth else "Linear",
    }


def _load() -> ModuleType:
    return import_module(MODULE)
