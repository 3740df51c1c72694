"""Contract 4: a metric, a number for finished views."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from sd_core.cameras import CameraBatch
from sd_core.encoders.usual import USUAL, Encoders
from sd_core.shapes import Images


@dataclass(frozen=True)
class MetricContext:
    """What a metric's `build(options, context)` is given.

    `device` is where the views will be, and where a model of the metric's own belongs. `encoders`
    are the models that read the pictures of the prior that made them, where the user names none.
    """

    device: torch.device
    encoders: Encoders = USUAL


class AbstractMetric(ABC):
    """Fed view by view, asked once. Several calls of `update` equal one call with all the views."""

    # None where neither direction is better, such as a count that has a right value.
    higher_is_better: ClassVar[bool | None] = None
    # Whether it must know from where each view was taken.
    needs_cameras: ClassVar[bool] = False
    # "object": asked for each object alone. "method": asked once, after all the objects that a
    # method made, of several prompts and seeds.
    scope: Literal["object", "method"] = "object"
    # Keys of the recipe, such as how many pictures there were, that change the number whatever the
    # pictures are: numbers are compared only where these are equal.
    compared_at_equal: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def update(self, images: Images, prompt: str, cameras: CameraBatch | None) -> None:
        """Take in views of one object, made for `prompt`; the next call may bring more of them.

        `cameras` is None for pictures whose cameras nobody knows, never if `needs_cameras`.
        """

    def end_object(self, name: str) -> None:
        """There are no more views of this object; what comes next is of another.

        `name` is what the table calls it. Nothing needs to be done here.
        """
        return

    def drop_object(self) -> None:
        """An object was refused before its end: what came of it does not count.

        To be written where `scope` is "method"; the others are reset before each object.
        """
        return

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The numbers, by name, for all that was taken in since the last reset."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything taken in."""

    def wanted_cameras(self, *, distance: float, vertical_fov_deg: float) -> CameraBatch | None:
        """Views of its own, where a ring around the object is not what it judges."""
        return None

    def deviations(self) -> dict[str, float]:
        """Standard deviations of the numbers of `compute` that are means, over views as a rule.

        Asked before `reset`.
        """
        return {}

    def recipe(self) -> dict[str, Any]:
        """What its numbers cannot be reproduced without, such as models and their revisions.

        Asked after `reset`, about the last numbers.
        """
        return {}
