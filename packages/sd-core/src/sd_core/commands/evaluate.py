"""`score-distill evaluate`: what the metrics say of runs, in metrics.json and as a table.

Options, metrics and every folder are checked before anything is computed: a mistake there is one
line and exit code 2. After that each run stands for itself: where its scene cannot be brought back
or drawn, or a metric refuses it (a prompt that it does not know, a number that is not finite), the
cell stays empty, a line on stderr says why, and its metrics.json keeps what it had. The exit code
is 0 if there is at least one number, else 2. The table alone goes to stdout.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sd_core.atomic import write_text
from sd_core.building import build_prior, choose_device
from sd_core.cli import USER_ERROR
from sd_core.config import Options, parse_options
from sd_core.errors import ScoreDistillationError
from sd_core.evaluation import (
    SCHEMA,
    Judge,
    Rings,
    ViewOptions,
    Views,
    build_judge,
    choose_metrics,
    merged,
    read_record,
    take_views,
)
from sd_core.experiment import Experiment
from sd_core.experiment_options import Table
from sd_core.plugins import Plugins
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import SavedScene, load_scene
from sd_core.shapes import Images, Latents
from sd_core.tables import Row, comparison


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A run that was asked for, by the name that it has in the table."""

    name: str
    folder: RunFolder
    experiment: Experiment

    @property
    def device(self) -> torch.device:
        """That of this command, not of the run."""
        return torch.device(self.experiment.options.run.device)

    def renderer_options(self, stage: int) -> Options:
        """Of the scene at this stage, which may have gone on with that of the one before."""
        upto = reversed(self.experiment.stages[: stage + 1])
        return next(each.renderer.innermost().options for each in upto if each.renderer)

    def is_finished(self, scene: SavedScene) -> bool:
        last = len(self.experiment.stages) - 1
        steps = self.experiment.stages[scene.stage].options.steps
        return (scene.stage, scene.steps_done) == (last, steps)


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """Check everything, then judge one run after the other."""
    options = _view_options(parsed)
    names = None if parsed.metrics is None else [n.strip() for n in parsed.metrics.split(",")]
    choices = choose_metrics(plugins, names, parsed.set)
    device = choose_device(parsed.device, told_by="--device")
    runs = _open_all(parsed.runs, plugins, device)
    judges = [build_judge(choice, plugins, device) for choice in choices]
    rows = [_evaluate(run, judges, options, parsed.stage) for run in runs]
    if not any(row.values for row in rows):
        return USER_ERROR
    print(comparison(rows, {judge.name: judge.metric.higher_is_better for judge in judges}))
    return 0


def _view_options(parsed: argparse.Namespace) -> ViewOptions:
    told: Table = {}
    if parsed.views is not None:
        told["views"] = parsed.views
    if parsed.elevation is not None:
        told["elevation"] = parsed.elevation.split(",")
    return parse_options(ViewOptions, told, where="")


def _open_all(paths: Sequence[str], plugins: Plugins, device: torch.device) -> list[Evaluated]:
    """Every folder, once; by its name, or by its path where two have the same name."""
    folders: dict[Path, Path] = {}
    for path in map(Path, paths):
        folders.setdefault(path.resolve(), path)
    names = [resolved.name for resolved in folders]
    runs = []
    for resolved, path in folders.items():
        folder, table = RunFolder.open(path)
        read_record(folder.metrics)  # a damaged one is told now, not after the work
        here = {**table.get("run", {}), "device": str(device)}
        experiment = Experiment({**table, "run": here}, plugins)
        name = resolved.name if names.count(resolved.name) == 1 else str(path)
        runs.append(Evaluated(name, folder, experiment))
    return runs


def _evaluate(
    run: Evaluated, judges: Sequence[Judge], options: ViewOptions, stage: int | None
) -> Row:
    """One row of the table; what there is to tell goes to stderr."""
    try:
        scene = load_scene(run.folder, run.experiment, device=run.device, stage=stage)
        views = _views(run, scene, options)
    except ScoreDistillationError as error:
        _tell(f"score-distill: {run.name}: {error}")
        return Row(run.name, run.experiment.method_names(), {})
    if stage is None and not run.is_finished(scene):
        _tell(
            f"{run.name} is not finished: its scene after {scene.steps_done} steps of stage "
            f"{scene.stage} is judged"
        )
    entries = {}
    for judge in judges:
        try:
            entries[judge.name] = judge.entry(views, run.experiment.options.prompt.text, run.device)
        except ScoreDistillationError as error:
            _tell(f"score-distill: {run.name}, {judge.name}: {error}")
    if entries:
        _write(run, scene, views, entries)
    told = {(name, key): v for name, e in entries.items() for key, v in e["values"].items()}
    return Row(run.name, run.experiment.method_names(), told)


def _views(run: Evaluated, scene: SavedScene, options: ViewOptions) -> list[Views]:
    """Of each single scene. The prior, which may be large, is built only for latents."""
    prior = None

    def decode(latents: Latents) -> Images:
        nonlocal prior
        prior = prior or build_prior(run.experiment)
        return prior.decode(latents)

    rings = Rings.seen_by(run.experiment.stages[scene.stage].cameras, options)
    return [take_views(each, rings, decode) for each in scene.renderer.single_scenes]


def _write(run: Evaluated, scene: SavedScene, views: Sequence[Views], entries: Table) -> None:
    path = run.folder.metrics
    record = {
        "schema": SCHEMA,
        "views": views[0].recipe(run.renderer_options(scene.stage)),
        "scene": {"stage": scene.stage, "steps_done": scene.steps_done},
        "metrics": entries,
    }
    record, dropped = merged(read_record(path), record)
    write_text(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
    lost = f", without {', '.join(dropped)}: of other views or another scene" if dropped else ""
    _tell(f"wrote {path}{lost}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
