"""One training, and the loop that runs it: seeded by step, saved each minute, resumed to the bit.

Everything that a step draws comes from the seed, the task's name and the step's number, and the
learning rate from the step's number alone, so that a training that was killed goes on as if
nothing had been.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from sd_core.checkpoint import (
    CheckpointLabel,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from sd_toybox.train.plan import BETAS, LONGEST_GRADIENT, WEIGHT_DECAY, Phase, seed_for
from sd_toybox.train.progress import Progress

SAVE_EVERY_SECONDS = 60.0
_HISTORY = 50  # points of the loss curve that are kept

Scalar = Float[Tensor, ""]
Rows = Int[Tensor, " batch"]


class Task(ABC):
    """Networks that learn, and their loss.

    Set in `__init__`:
      name        what the progress lines and the seeds are called
      phase       steps, batch and rate
      samples     how many there are to learn from
      networks    what learns
      ema_decay   of the running mean of the weights that is kept in the end, or None
    """

    name: str
    phase: Phase
    samples: int
    networks: nn.ModuleDict
    ema_decay: float | None = None

    @abstractmethod
    def losses(self, step: int, rows: Rows, generator: Generator) -> dict[str, Scalar]:
        """The loss of these samples, as "loss", and its parts; all draws from the generator."""


@dataclass(frozen=True)
class Run:
    """Where a training keeps its state, what it belongs to, and who hears of it."""

    folder: Path
    fingerprint: str
    seed: int
    write: Callable[[str], None]
    save_every_seconds: float = SAVE_EVERY_SECONDS


# Step and losses, the means since the point before.
History = list[tuple[int, dict[str, float]]]


@dataclass(frozen=True)
class Outcome:
    """How long a training took, all its runs together, and its losses."""

    seconds: float
    history: History


def train(task: Task, run: Run) -> Outcome:
    """Runs the task to its end, from where it was. Afterwards its networks hold the result."""
    state = TrainingState(task)
    folder = run.folder / task.name
    if found := list_checkpoints(folder):
        _, saved = load_checkpoint(
            found[-1],
            experiment=run.fingerprint,
            if_damaged="Delete it, and the training goes on from the one before.",
        )
        state.load_state_dict(saved)
    progress = Progress(task.name, task.phase.steps, run.write)
    last_saved = monotonic()
    before = state.seconds - last_saved
    while state.step < task.phase.steps:
        logs = training_step(task, state, run.seed)
        finished = state.step == task.phase.steps
        if finished or monotonic() - last_saved >= run.save_every_seconds:
            last_saved = monotonic()
            state.seconds = before + last_saved
            label = CheckpointLabel(run.fingerprint, 0, state.step)
            save_checkpoint(folder, label, state.state_dict())
        progress.at(state.step, logs)
    state.use_average()
    return Outcome(state.seconds, state.history)


def training_step(task: Task, state: "TrainingState", seed: int) -> dict[str, float]:
    """One step of AdamW; gives its losses."""
    generator = Generator().manual_seed(seed_for(seed, task.name, state.step))
    for group in state.optimiser.param_groups:
        group["lr"] = rate_at(state.step, task.phase)
    losses = task.losses(state.step, batch_rows(task, state.step, seed), generator)
    state.optimiser.zero_grad()
    if not bool(losses["loss"].isfinite()):
        raise FloatingPointError(f"the loss of {task.name} is not finite at step {state.step}")
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(task.networks.parameters(), LONGEST_GRADIENT)
    state.optimiser.step()
    logs = {name: float(value.detach()) for name, value in losses.items()}
    state.count(logs)
    return logs


class TrainingState:
    """All that changes from step to step: weights, their mean, the optimiser, the loss curve."""

    def __init__(self, task: Task) -> None:
        self.step = 0
        self.seconds = 0.0
        self.history: History = []
        self.optimiser = torch.optim.AdamW(
            task.networks.parameters(), lr=task.phase.rate, betas=BETAS, weight_decay=WEIGHT_DECAY
        )
        self._task = task
        self._recent: list[dict[str, float]] = []
        self._mean = (
            [parameter.detach().clone() for parameter in task.networks.parameters()]
            if task.ema_decay is not None
            else []
        )

    def count(self, logs: dict[str, float]) -> None:
        """After a step: w̄ ← d·w̄ + (1 - d)·w with d = min(decay, (1 + n)/(10 + n)), n steps done."""
        decay = min(self._task.ema_decay or 0.0, (1 + self.step) / (10 + self.step))
        if self._mean:
            weights = [parameter.detach() for parameter in self._task.networks.parameters()]
            torch._foreach_lerp_(self._mean, weights, 1 - decay)
        self.step += 1
        self._recent.append(logs)
        steps = self._task.phase.steps
        if self.step % max(1, steps // _HISTORY) == 0 or self.step == steps:
            mean = {name: sum(each[name] for each in self._recent) for name in logs}
            count = len(self._recent)
            self.history.append((self.step, {name: total / count for name, total in mean.items()}))
            self._recent = []

    def use_average(self) -> None:
        """The networks take the mean weights, where there are some."""
        with torch.no_grad():
            for parameter, mean in zip(self._task.networks.parameters(), self._mean, strict=False):
                parameter.copy_(mean)

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "networks": self._task.networks.state_dict(),
            "mean": self._mean,
            "optimiser": self.optimiser.state_dict(),
            "history": self.history,
            "recent": self._recent,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.seconds = state["seconds"]
        self._task.networks.load_state_dict(state["networks"])
        self._mean = state["mean"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.history = state["history"]
        self._recent = state["recent"]


def rate_at(step: int, phase: Phase) -> float:
    """rate·min(1, (n + 1)/warm_up)·(1 + cos(π·n/steps))/2 at step n."""
    rising = min(1.0, (step + 1) / max(1, phase.warm_up))
    return phase.rate * rising * (1 + cos(pi * step / phase.steps)) / 2


def batch_rows(task: Task, step: int, seed: int) -> Rows:
    """Which samples a step sees: each once in an order, which is another in each round."""
    batch = min(task.phase.batch, task.samples)
    in_a_round = task.samples // batch
    generator = Generator().manual_seed(seed_for(seed, task.name, "order", step // in_a_round))
    place = step % in_a_round * batch
    return torch.randperm(task.samples, generator=generator)[place : place + batch]
