"""Contract 4: a metric, a number for the finished views of a prompt."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from sd_core.cameras import CameraBatch
from sd_core.shapes import Images


@dataclass(frozen=True)
class MetricContext:
    """What a metric's `build(options, context)` is given.

    `device` is where the views will be, and where a model of the metric's own belongs.
    """

    device: torch.device


class AbstractMetric(ABC):
    """Fed view by view, asked once. Several calls of `update` equal one call with all the views."""

    # None where neither direction is better, such as a count that has a right value.
    higher_is_better: ClassVar[bool | None] = None

    @abstractmethod
    def update(self, images: Images, prompt: str, cameras: CameraBatch) -> None:
        """Take in views of one object, made for `prompt`."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The numbers, by name, for all that was taken in since the last reset."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything taken in."""
