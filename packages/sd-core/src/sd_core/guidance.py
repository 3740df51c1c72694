"""Contract 1: guidance, a method of score distillation. To write your own, begin here.

Most methods are a residual of two noise predictions and differ in a part or two of it: they
subclass `ResidualGuidance` (residual.py) and override that part. Any other form implements
`AbstractGuidance` itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Generator, nn

from sd_core.cameras import CameraBatch
from sd_core.prior import AbstractPrior
from sd_core.prompts import PromptOptions
from sd_core.shapes import Latents, Timesteps
from sd_core.step import Step


@dataclass(frozen=True, eq=False)
class Guided:
    """What a method answers for one batch of latents.

    gradient  the descent direction of each sample, not averaged over the batch, without a graph
    t         the diffusion time that each sample was judged at
    logs      plain numbers worth a line in the log
    observed  handed back to `update_estimator` as it is; nobody else looks inside
    """

    gradient: Latents
    t: Timesteps
    logs: Mapping[str, float] = field(default_factory=dict)
    observed: object = None


@dataclass(frozen=True)
class GuidanceContext:
    """What a method's `build(config, context)` is given.

    `find(name, options)` builds another installed method, for methods made of others: one that
    the options' own `made_of()` declares.

    `folder` is where a method may leave files that people look at, of this method alone; a resumed
    run is given the same one again. It need not be there yet. None without a run folder.
    """

    prior: AbstractPrior
    prompt: PromptOptions
    find: "Callable[[str, Mapping[str, Any]], AbstractGuidance]"
    folder: Path | None = None


class AbstractGuidance(nn.Module, ABC):
    """A method: latents of the current views → the direction that they should move in.

    Its `state_dict()` is its checkpoint. Phases and schedules are derived from `step`, never
    stored, so that a resumed run behaves as the uninterrupted one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name = type(self).__name__  # the experiment replaces it by the entry's name

    @abstractmethod
    def gradient(
        self, latents: Latents, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Guided:
        """The gradient at clean, detached latents.

        Without side effects: called twice with equal generators it gives equal bits, and it leaves
        the latents, the prior and torch's global random state as they were.
        """

    def update_estimator(
        self,
        latents: Latents,
        cameras: CameraBatch,
        guided: Guided,
        *,
        step: Step,
        generator: Generator,
    ) -> Mapping[str, float]:
        """Learn from this step, after the scene has moved; gives what is worth logging."""
        return {}
