"""`score-distill diagnose`: how much the gradients of methods scatter at fixed cameras, and why.

The scene is a run's as it was saved, or an experiment's own, as it begins or after some steps of
its first stage. Figures 4 and 14 of the JSD paper (arXiv:2503.10660), for any method.

The scene's own method has learned what it had by then, all others are as they begin; a line on
stderr says which. The table alone goes to stdout.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from math import isfinite, isnan
from pathlib import Path
from typing import Any

from sd_core.atomic import disk_errors, write_bytes, write_text
from sd_core.commands.run import experiment_table
from sd_core.commands.watch import load_prior
from sd_core.config import over, parse_options
from sd_core.diagnosis import (
    Bench,
    Diagnosed,
    DiagnoseOptions,
    Moment,
    at_one_time,
    moments_along,
    saved_moment,
)
from sd_core.diagnosis_figure import check_matplotlib, diagnosis_figure
from sd_core.errors import ConfigError, nearest
from sd_core.experiment import Choice, Experiment
from sd_core.experiment_options import Table, options_table
from sd_core.made_by import made_by
from sd_core.plugins import Plugins
from sd_core.prior import AbstractPrior
from sd_core.run_folder import RunFolder
from sd_core.tables import markdown
from sd_core.timesteps import index_at

SCHEMA = 1
TIMES = (0.1, 0.25, 0.5, 0.75, 0.9)
HEADER = (
    "method",
    "step",
    "t",
    "norm",
    "variance",
    "relative",
    "95 %",
    "cosine",
    "correlation",
    "alignment",
)


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """Check everything that can be checked without the prior, then draw."""
    run = _opened(parsed)
    experiment = Experiment(experiment_table(parsed), plugins)
    options = _options(parsed, experiment)
    output = Path(parsed.output) if parsed.output else None
    if output is not None:
        check_matplotlib()
        RunFolder.check_free(output)
    saved = None if run is None else saved_moment(run, experiment)
    stage = saved.stage if saved else 0
    choices = _choices(parsed, experiment, stage)
    prior = load_prior(experiment)
    bench = Bench(experiment, prior, options, choices, _times(options, prior))
    moments: Iterable[Moment] = (
        [saved] if saved else moments_along(experiment, prior, options.steps)
    )
    rows = [row for moment in moments for row in bench.diagnose(moment)]
    print(markdown(HEADER, [_cells(row) for row in rows]))
    _tell_fresh(rows)
    _tell_alike(rows)
    if output is not None:
        record = {
            "schema": SCHEMA,
            "made_by": made_by(experiment, prior, parsed.arguments),
            "experiment": experiment.resolved(),
            "methods": [_recorded(choice, plugins) for choice in choices],
            "stage": stage,
            "cameras": options.cameras,
            "seeds": bench.seeds,
            "rows": [_numbers(asdict(row)) for row in rows],
        }
        _write(output, record, diagnosis_figure(rows))
    return 0


def _opened(parsed: argparse.Namespace) -> RunFolder | None:
    """The run folder, if it is one; its config.json is then the experiment."""
    told: str | None = parsed.experiment
    if not told or not os.path.isdir(told):  # unlike Path.is_dir, false for a name too long
        return None
    for flag in ("guidance", "steps"):
        if getattr(parsed, flag) is not None:
            raise ConfigError(
                f"--{flag} does not go with the run {told}, whose scene is there already. Leave "
                "it out; --methods names what judges the scene."
            )
    folder, _ = RunFolder.open(Path(told))
    parsed.experiment = str(Path(told) / "config.json")
    return folder


def _options(parsed: argparse.Namespace, experiment: Experiment) -> DiagnoseOptions:
    told: Table = {}
    for name, value in (("draws", parsed.draws), ("cameras", parsed.cameras)):
        told |= {} if value is None else {name: value}
    for name, value in (("times", parsed.times), ("steps", parsed.steps)):
        told |= {} if value is None else {name: value.split(",")}
    options = parse_options(DiagnoseOptions, told, where="")
    total = experiment.stages[0].options.steps
    if max(options.steps) >= total:
        raise ConfigError(
            f"steps has {max(options.steps)}, but the first stage has the steps 0 to {total - 1}. "
            "Give smaller --steps, or the stage more of them: --set stages.0.steps=N."
        )
    return options


def _choices(parsed: argparse.Namespace, experiment: Experiment, stage: int) -> list[Choice]:
    """Each method once; the stage's own with the options that it has there."""
    own = experiment.stages[stage].guidance.entry.name
    names = [own] if parsed.methods is None else [n.strip() for n in parsed.methods.split(",")]
    told = _own_options(parsed.own, names)
    choices = []
    for name in dict.fromkeys(names):
        there = experiment.options.stages[stage].guidance if name == own else {}
        table = {**over(told.get(name, {}), there), "name": name}
        choice = experiment.choose("guidance", table, name)
        if at_one_time(choice.table(), 0, 1) == choice.table():
            raise ConfigError(
                f"guidance '{name}' has no option 'timesteps', so that its t cannot be chosen. "
                "Leave it out of --methods."
            )
        choices.append(choice)
    return choices


def _own_options(assignments: Sequence[str], names: Sequence[str]) -> Table:
    """The options of each method, from METHOD.OPTION=VALUE."""
    for assignment in assignments:
        path, equals, _ = assignment.partition("=")
        name, *keys = (key.strip() for key in path.split("."))
        if not (equals and name and keys and all(keys)):
            raise ConfigError(
                f"--with {assignment} is not an assignment. Write --with METHOD.OPTION=VALUE; "
                "score-distill describe guidance METHOD lists the options."
            )
        if name not in names:
            raise ConfigError(
                f"--with {assignment}: method '{name}' is not asked for. Add it to --methods."
                f"{nearest(name, names)}"
            )
    return options_table(assignments, flag="--with", such_as="vsd.scale=7.5")


def _times(options: DiagnoseOptions, prior: AbstractPrior) -> list[int]:
    length = len(prior.schedule)
    if options.times is None:
        return [index_at(each, length) for each in TIMES]
    if max(options.times, default=length) >= length:
        raise ConfigError(
            f"times is {list(options.times)}, but the prior's noise schedule has t = 0 to "
            f"{length - 1}. Give --times from that range."
        )
    return sorted(set(options.times))


def _cells(row: Diagnosed) -> list[str]:
    found = row.spread
    low, high = (_shown(end) for end in found.interval)
    return [
        row.method,
        str(row.step),
        str(row.t),
        _shown(found.norm),
        _shown(found.variance),
        _shown(found.relative_variance),
        f"{low} to {high}",
        _shown(found.cosine),
        _shown(row.correlation),
        _shown(row.alignment),
    ]


def _shown(value: float) -> str:
    return "–" if isnan(value) else "∞" if not isfinite(value) else f"{value:.3g}"


def _tell_fresh(rows: Sequence[Diagnosed]) -> None:
    fresh = dict.fromkeys(row.method for row in rows if row.learned == "as it begins")
    if fresh:
        print(
            f"as they begin, with nothing learned of this scene: {', '.join(fresh)}",
            file=sys.stderr,
        )


def _tell_alike(rows: Sequence[Diagnosed]) -> None:
    """Such as methods that have not begun to differ at this step."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.method, []).append((row.step, row.t, row.spread))
    alike: dict[str, list[str]] = {}
    for method, numbers in found.items():
        alike.setdefault(repr(numbers), []).append(method)  # repr: NaN is as NaN
    for methods in alike.values():
        if len(methods) > 1:
            print(f"the same gradients at every draw: {', '.join(methods)}", file=sys.stderr)


def _recorded(choice: Choice, plugins: Plugins) -> Table:
    source = plugins.source("guidance", choice.entry.name)
    return {"options": choice.table(), "plugin": str(source)}


def _numbers(told: Any) -> Any:
    """JSON has no word for what is not finite: null."""
    if isinstance(told, dict):
        return {key: _numbers(value) for key, value in told.items()}
    if isinstance(told, tuple):
        return [_numbers(value) for value in told]
    return None if isinstance(told, float) and not isfinite(told) else told


def _write(folder: Path, record: Table, figure: bytes) -> None:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "diagnose.png", figure)
    write_text(folder / "diagnose.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
    print(f"wrote {folder / 'diagnose.json'} and diagnose.png", file=sys.stderr)
