"""What the metrics of one object share: some numbers are read off each view, and kept."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sd_core.cameras import CameraBatch
from sd_core.errors import ConfigError
from sd_core.metric import AbstractMetric
from sd_core.shapes import Images

# Views that a network sees at once; it changes no number.
AT_ONCE = 16

PerView = Float[Tensor, "views values"]


class AbstractPerViewMetric(AbstractMetric):
    """Views of one object; those of another only after a reset.

    `fewest` views are needed, such as two for what compares views.
    """

    fewest: ClassVar[int] = 1

    def __init__(self) -> None:
        self.reset()

    @abstractmethod
    def read(self, images: Images, prompt: str) -> PerView:
        """The numbers of each view, which depend on no other view."""

    def reset(self) -> None:
        self._prompt: str | None = None
        self._read: list[PerView] = []

    def update(self, images: Images, prompt: str, cameras: CameraBatch | None) -> None:
        if self._prompt not in (None, prompt):
            raise ConfigError(
                f"the views are of '{self._prompt}' and of '{prompt}', expected one object. "
                "Reset the metric between two."
            )
        self._read.append(read_in_parts(partial(self.read, prompt=prompt), images))
        self._prompt = prompt

    def views(self) -> PerView:
        """What was read since the last reset, on the CPU in float64; too little is refused."""
        count = sum(map(len, self._read))
        if count < self.fewest:
            raise ConfigError(
                f"there is {count} view of the object, expected {self.fewest} or more. Evaluate "
                "it with more views."
                if count
                else "there is no view of an object yet. Update the metric before it computes."
            )
        return torch.cat(self._read)


@torch.no_grad()
def read_in_parts(read: Callable[[Images], PerView], images: Images) -> PerView:
    """By few views at once, so that any number of them fits into memory; float64 on the CPU."""
    check_pictures(images)
    return torch.cat([read(part).to("cpu", torch.float64) for part in torch.split(images, AT_ONCE)])


def check_pictures(images: Images) -> None:
    """Refuses what is not in colour, and what is not finite."""
    if images.shape[1] != 3:
        raise ConfigError(
            f"the views have {images.shape[1]} channels, expected red, green and blue. "
            "Evaluate pictures in colour."
        )
    if not bool(images.isfinite().all()):
        raise ConfigError("the views hold NaN or infinity, expected 0 to 1. Look at the scene.")


def deviation(values: Float[Tensor, " views"]) -> float | None:
    """√(Σ(x - m)²/(n - 1)) over views; None for one view alone."""
    return float(values.std()) if len(values) > 1 else None
