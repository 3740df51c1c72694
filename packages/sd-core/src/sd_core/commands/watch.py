"""Running in front of a person: progress, a stop when asked, and where the pictures are."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from sd_core.building import build_prior
from sd_core.cli import INTERRUPTED
from sd_core.experiment import Experiment
from sd_core.prior import AbstractPrior
from sd_core.run_folder import RunFolder
from sd_core.runner import Progress, Start, Stop, run_stages

QUIET_SECONDS = 10.0
UNKNOWN = "?"


def load_prior(experiment: Experiment) -> AbstractPrior:
    """Set torch's threads, then load the model."""
    set_threads(experiment)
    return build_prior(experiment)


def set_threads(experiment: Experiment) -> None:
    """As many as the experiment says."""
    if experiment.options.run.threads:
        torch.set_num_threads(experiment.options.run.threads)


def watch(
    experiment: Experiment, prior: AbstractPrior, folder: RunFolder, start: Start, *, quiet: bool
) -> int:
    """Run, show progress, and say at the end where everything is; the caller holds the lock."""
    stop = Stop()
    with stop_when_asked(stop):
        steps = run_stages(experiment, prior, folder, start=start, stop=stop)
        if quiet or not sys.stdout.isatty():
            _show_lines(steps)
        else:
            _show_bar(steps)
    if stop.requested:
        print(f"stopped and saved; go on with: score-distill resume {folder.path}")
        return INTERRUPTED
    print(f"done; the pictures are in {folder.final}")
    return 0


@contextmanager
def stop_when_asked(stop: Stop) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM lets the step finish and saves; a second interrupts at once.

    SIGTERM is what batch systems send at a job's time limit, some seconds before they kill it.
    """

    def ask(_signal: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    before = {each: signal.signal(each, ask) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _show_bar(steps: Iterator[Progress]) -> None:
    bar = Bar(
        TextColumn("stage {task.fields[stage]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} steps/s"),
        TimeRemainingColumn(),
        TextColumn("|g| {task.fields[norm]}"),
        console=Console(),
    )
    rate = _Rate()
    with bar:
        task = bar.add_task("", total=None, stage=0, rate=UNKNOWN, norm=UNKNOWN)
        for step in steps:
            if rate.begins(step):
                bar.reset(task)  # the time left is not to be told from the stage before
            bar.update(
                task,
                total=step.steps,
                completed=step.step + 1,
                stage=step.stage,
                rate=_shown(rate.after(step), ".1f"),
                norm=_shown(step.logs["gradient_norm"], ".3g"),
            )


def _show_lines(steps: Iterator[Progress]) -> None:
    rate, shown = _Rate(), -QUIET_SECONDS
    for step in steps:
        speed, now = rate.after(step), time.monotonic()
        if now - shown < QUIET_SECONDS and step.step + 1 < step.steps:
            continue
        shown = now
        left = (step.steps - step.step - 1) / speed if speed else None
        print(
            f"stage {step.stage} step {step.step + 1}/{step.steps} {_shown(speed, '.1f')} steps/s "
            f"{_shown(left, '.0f')} s left |g| {step.logs['gradient_norm']:.3g}",
            flush=True,
        )


def _shown(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


class _Rate:
    """Steps a second, from the first step seen of each stage on: None until there are two."""

    def __init__(self) -> None:
        self._stage = -1
        self._first = 0
        self._began = 0.0

    def begins(self, step: Progress) -> bool:
        return step.stage != self._stage

    def after(self, step: Progress) -> float | None:
        now = time.monotonic()
        if self.begins(step):
            self._stage, self._first, self._began = step.stage, step.step, now
            return None
        return (step.step - self._first) / max(now - self._began, 1e-6)
