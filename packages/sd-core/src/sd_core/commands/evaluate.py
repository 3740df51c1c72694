"""`score-distill evaluate`: what the metrics say of runs and pictures, and how methods compare.

Options, metrics and every folder are checked before anything is computed: a mistake there is one
line and exit code 2. After that each subject stands for itself: where its scene cannot be brought
back or drawn, or a metric refuses it (a prompt that it does not know, a number that is not finite),
the cell stays empty, a line on stderr says why, and its metrics.json keeps what it had. The exit
code is 0 if there is at least one number, else 2. The table alone goes to stdout.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from sd_core.building import choose_device
from sd_core.cli import USER_ERROR
from sd_core.config import parse_options
from sd_core.encoders.usual import USUAL, Encoders
from sd_core.entries import PriorEntry
from sd_core.errors import ConfigError, PluginError, ScoreDistillationError
from sd_core.evaluation import Judge, ViewOptions, build_judge, choose_metrics
from sd_core.evaluation_record import read_record
from sd_core.experiment import Choice, Experiment
from sd_core.experiment_options import Table
from sd_core.findings import Findings, tell
from sd_core.metric import MetricContext
from sd_core.picture_folder import Bad, PictureFolder
from sd_core.plugins import Plugins
from sd_core.report import check_report_folder, write_report
from sd_core.run_folder import RunFolder
from sd_core.settings import told_apart
from sd_core.subjects import PictureSubject, RunSubject, Subject, found_folders, is_run
from sd_core.tables import comparison


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """Check everything, then judge method by method: each of its subjects, then all together."""
    names = None if parsed.metrics is None else [n.strip() for n in parsed.metrics.split(",")]
    choices = choose_metrics(plugins, names, parsed.set)
    device = choose_device(parsed.device, told_by="--device")
    subjects = _open_all(parsed, plugins, device)
    if parsed.report is not None:
        check_report_folder(Path(parsed.report))
    panel = Panel(plugins, device, choices, asked=names is not None)
    groups: dict[str, list[Subject]] = {}
    for subject in subjects:
        panel.judges(subject)  # a model that is missing is told now, not after the work
        groups.setdefault(subject.method, []).append(subject)
    panel.refuse_two_eyes()
    found = Findings()
    for method, own in groups.items():
        found.judge(method, own, panel.judges, device)
    rows = [found.rows[subject.name] for subject in subjects]
    if not any(row.values for row in rows) and not found.of_methods:
        return USER_ERROR
    better = panel.higher_is_better()
    print(comparison(rows, better, found.of_methods))
    apart = found.not_compared()
    if parsed.report is not None:
        remark = write_report(
            Path(parsed.report),
            rows,
            of_methods=found.of_methods,
            higher_is_better={name: None if name in apart else of for name, of in better.items()},
            recipe=found.recipe,
        )
        tell(f"wrote {parsed.report}" + (f": {remark}" if remark else ""))
    return 0


@dataclass(eq=False)
class Panel:
    """The metrics asked for, once for each prior's own models that read its pictures."""

    plugins: Plugins
    device: torch.device
    choices: Sequence[Choice]
    asked: bool  # for these metrics by name, so that one that cannot be built is an error
    _built: dict[Encoders, list[Judge]] = field(default_factory=dict)

    def judges(self, subject: Subject) -> list[Judge]:
        encoders = self._encoders(subject.prior)
        if encoders not in self._built:
            self._built[encoders] = self._build(encoders)
        return self._built[encoders]

    def higher_is_better(self) -> dict[str, bool | None]:
        """In the order of the columns."""
        every = [each for judges in self._built.values() for each in judges]
        known = {judge.name: judge.metric.higher_is_better for judge in every}
        order = [choice.entry.name for choice in self.choices]
        return {name: known[name] for name in order if name in known}

    def refuse_two_eyes(self) -> None:
        """Numbers of one metric by different models do not stand in one column."""
        for name in self.higher_is_better():
            own = [each for judges in self._built.values() for each in judges if each.name == name]
            if any(each.metric.recipe() != own[0].metric.recipe() for each in own):
                raise ConfigError(
                    f"metric '{name}' would read these folders with different models, those that "
                    "suit the prior of each, and such numbers cannot be compared. Say whose "
                    "pictures they are like: --prior NAME."
                )

    def _encoders(self, prior: str | None) -> Encoders:
        entry = None if prior is None else self.plugins.find("prior", prior)
        found = entry.load_encoders() if isinstance(entry, PriorEntry) else USUAL
        if not isinstance(found, Encoders):
            raise PluginError(
                f"prior '{prior}': its encoders are not a sd_core.encoders.usual.Encoders. Tell "
                "its author."
            )
        return found

    def _build(self, encoders: Encoders) -> list[Judge]:
        built = []
        for choice in self.choices:
            try:
                context = MetricContext(self.device, encoders)
                built.append(build_judge(choice, self.plugins, context))
            except ScoreDistillationError as error:
                if self.asked:
                    raise
                tell(f"without {choice.entry.name}: {error}")
        return built


def _open_all(parsed: argparse.Namespace, plugins: Plugins, device: torch.device) -> list[Subject]:
    """Every folder, once; by its name, or by its path where two have the same name."""
    folders = found_folders([Path(path) for path in parsed.runs])
    names = [path.resolve().name for path, _ in folders]
    options = _view_options(parsed)
    subjects: list[Subject] = []
    for path, group in folders:
        name = path.resolve().name
        name = name if names.count(name) == 1 else str(path)
        if path.is_dir():
            read_record(path / "metrics.json")  # a damaged one is told now, not after the work
        if path.is_dir() and not is_run(path):
            bad: Bad = parsed.bad_pictures or "refuse"
            pictures = PictureFolder.open(path, prompt=parsed.prompt, bad=bad)
            subjects.append(
                PictureSubject(path, name, group or name, parsed.prior, pictures, device)
            )
            continue
        folder, table = RunFolder.open(path)
        here = {**table.get("run", {}), "device": str(device)}
        experiment = Experiment({**table, "run": here}, plugins)
        method, prior = experiment.method_names(), parsed.prior or experiment.prior.entry.name
        subjects.append(
            RunSubject(path, name, method, prior, folder, experiment, options, parsed.stage)
        )
    _refuse_without_effect(parsed, subjects)
    return _grouped(subjects, [group for _, group in folders])


def _refuse_without_effect(parsed: argparse.Namespace, subjects: Sequence[Subject]) -> None:
    of_runs = {"--views": parsed.views, "--elevation": parsed.elevation, "--stage": parsed.stage}
    of_pictures = {"--prompt": parsed.prompt, "--bad-pictures": parsed.bad_pictures}
    for kind, told, of, others in (
        (RunSubject, of_runs, "runs", "pictures"),
        (PictureSubject, of_pictures, "pictures", "runs"),
    ):
        if any(isinstance(subject, kind) for subject in subjects):
            continue
        for option, value in told.items():
            if value is not None:
                raise ConfigError(
                    f"{option} is of {of}, and here are only {others}. Leave it out, or name "
                    f"{of} too."
                )


def _grouped(subjects: list[Subject], groups: list[str | None]) -> list[Subject]:
    """Called as the folder that they were found in; with their method where it has several.

    Runs of one method with other settings are several methods. A folder called as the method of a
    run that was named by itself is no part of that method.
    """
    names = {subject.name: subject.method for subject in subjects}
    of_runs: dict[str | None, set[str]] = {}
    for group in dict.fromkeys(groups):
        own = [
            subject
            for subject, found_in in zip(subjects, groups, strict=True)
            if found_in == group and isinstance(subject, RunSubject)
        ]
        told = told_apart([subject.experiment for subject in own])
        names |= {subject.name: name for subject, name in zip(own, told, strict=True)}
        of_runs[group] = set(told)
    found = []
    for subject, group in zip(subjects, groups, strict=True):
        name, run = names[subject.name], isinstance(subject, RunSubject)
        if group is not None:
            name = f"{group}: {name}" if run and len(of_runs[group]) > 1 else group
        if name in of_runs.get(None, ()) and not (run and group is None):
            name = f"{name} (folder)"
        found.append(replace(subject, method=name))
    return found


def _view_options(parsed: argparse.Namespace) -> ViewOptions:
    told: Table = {}
    if parsed.views is not None:
        told["views"] = parsed.views
    if parsed.elevation is not None:
        told["elevation"] = parsed.elevation.split(",")
    return parse_options(ViewOptions, told, where="")
