"""Experiments of milliseconds, and equality to the bit."""

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

import fake_plugin
from sd_core.building import build_prior
from sd_core.checkpoint import list_checkpoints, load_checkpoint
from sd_core.experiment import Experiment
from sd_core.plugins import load_plugins
from sd_core.run_folder import RunFolder, fingerprint
from sd_core.runner import Start, Stop, find_start, run_stages

METHODS = {
    "sds": {"name": "sds"},
    "vsd": {"name": "vsd"},
    "mix": {"name": "mix", "target": "sds", "source": "vsd"},
}

load_with_fakes = partial(load_plugins, installed=False, extra=[fake_plugin])
plugins = cache(load_with_fakes)


def table(*stages: dict[str, Any], **run: Any) -> dict[str, Any]:
    """An experiment table with small stages; `run` is the table of that name."""
    small = {"threads": 1, "checkpoint_every": 1000, "preview_every": 0, **run}
    tiny = [{"cameras": {"batch": 4}, **stage} for stage in stages]
    return {"prompt": "two gaussians", "stages": tiny, "run": small}


class SmallRun:
    """An experiment and its run folder."""

    def __init__(self, options: dict[str, Any], path: Path) -> None:
        self.experiment = Experiment(options, plugins())
        told = self.experiment.resolved()
        with RunFolder.claimed(path, experiment=told, made_by={}) as self.folder:
            pass

    def go(self, start: Start | None = None, *, steps: int | None = None) -> "SmallRun":
        """All the steps, or stop within step number `steps`, which is finished and saved."""
        stop = Stop(requested=steps == 1)
        prior = build_prior(self.experiment)
        begin = start or Start()
        running = run_stages(self.experiment, prior, self.folder, start=begin, stop=stop)
        for done, _ in enumerate(running, start=1):
            stop.requested = steps is not None and done >= steps - 1
        return self

    def kill(self, *, steps: int) -> "SmallRun":
        """Like a run that dies after this many steps: nothing is saved on the way out."""
        prior = build_prior(self.experiment)
        running = run_stages(self.experiment, prior, self.folder, start=Start(), stop=Stop())
        for _ in range(steps):
            next(running)
        return self

    def resume(self, *, previous: bool = False, steps: int | None = None) -> "SmallRun":
        return self.go(find_start(self.folder, previous=previous), steps=steps)

    @property
    def checkpoints(self) -> list[str]:
        return [path.name for path in list_checkpoints(self.folder.checkpoints)]


def newest_state(folder: RunFolder | Path) -> dict[str, Any]:
    """What the newest checkpoint of a run holds."""
    path = folder.path if isinstance(folder, RunFolder) else folder
    _, table = RunFolder.open(path)
    newest = list_checkpoints(path / "checkpoints")[-1]
    return load_checkpoint(newest, experiment=fingerprint(Experiment(table, plugins()).resolved()))[
        1
    ]


def scene(path: Path) -> dict[str, torch.Tensor]:
    return newest_state(path)["scene"]


def log_lines(folder: RunFolder | Path) -> list[dict[str, Any]]:
    """The log without the seconds."""
    path = folder.path if isinstance(folder, RunFolder) else folder
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    return [{key: each[key] for key in each if key != "seconds"} for each in lines]


def same(one: Any, other: Any) -> bool:
    """Equal to the bit, kinds included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)  # tells -0.0 from 0.0, and nan is nan


def experiment_file(text) -> str:
    Path("experiment.toml").write_text(text)
    return "experiment.toml"
