"""What `score-distill evaluate` finds out: numbers of subjects and of methods, and recipes."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from sd_core.errors import ScoreDistillationError
from sd_core.evaluation import Judge, Views
from sd_core.evaluation_record import write_record
from sd_core.experiment_options import Table
from sd_core.subjects import Subject
from sd_core.tables import Column, Row


@dataclass(eq=False)
class Findings:
    """Rows of the table, numbers of whole methods, and how all of it was measured."""

    rows: dict[str, Row] = field(default_factory=dict)
    of_methods: dict[str, dict[Column, float]] = field(default_factory=dict)
    recipe: Table = field(default_factory=lambda: {"subjects": {}, "methods": {}})
    _at_equal: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def judge(
        self,
        method: str,
        subjects: Sequence[Subject],
        judges_of: Callable[[Subject], Sequence[Judge]],
        device: torch.device,
    ) -> None:
        """Each subject alone, and by the metrics of that scope all together."""
        together: dict[Judge, list[str]] = {}
        # Priors of several kinds each have judges of their own, which read alike where they got
        # this far: one of them takes in all objects of a method.
        shared: dict[str, Judge] = {}
        for judge in (each for subject in subjects for each in judges_of(subject)):
            judge.metric.reset()
            self._at_equal[judge.name] = judge.metric.compared_at_equal
            if judge.metric.scope == "method":
                shared.setdefault(judge.name, judge)
        for subject in subjects:
            judges = [shared.get(each.name, each) for each in judges_of(subject)]
            self.rows[subject.name] = self._one(subject, judges, device, together)
            subject.forget()
        for judge, taken_in in together.items():
            self._all(method, judge, taken_in, device)

    def not_compared(self) -> set[str]:
        """Metrics of which one number is not to be held against another; a line says why."""
        entries = [told["metrics"] for told in self.recipe["subjects"].values()]
        entries += self.recipe["methods"].values()
        apart = set()
        for name, keys in self._at_equal.items():
            measured = [entry[name] for entry in entries if name in entry]
            recipes = [r for one in measured for r in one.get("recipes", [one.get("recipe", {})])]
            for key in keys:
                found = list(dict.fromkeys(str(recipe.get(key)) for recipe in recipes))
                if len(found) > 1:
                    apart.add(name)
                    what = f"{key.replace('_', ' ')} ({', '.join(found)})"
                    tell(f"{name} is of other numbers of {what}, which changes it: none is best")
        return apart

    def _one(
        self,
        subject: Subject,
        judges: Sequence[Judge],
        device: torch.device,
        together: dict[Judge, list[str]],
    ) -> Row:
        """What there is to tell goes to stderr."""
        entries: Table = {}
        try:
            views, scene, remark = subject.views(), subject.scene(), subject.remark()
        except ScoreDistillationError as error:
            tell(f"score-distill: {subject.name}: {error}")
            return Row(subject.name, subject.method, {})
        if remark:
            tell(remark)
        for judge in judges:
            try:
                objects = subject.objects(judge.metric)
                if judge.metric.scope == "method":
                    for each in objects:
                        judge.take_in(each)
                        together.setdefault(judge, []).append(subject.name)
                elif entry := _alone(judge, subject.name, objects, device):
                    entries[judge.name] = entry
            except ScoreDistillationError as error:
                tell(f"score-distill: {subject.name}, {judge.name}: {error}")
        self._write(subject.record, {"views": views, "scene": scene, "metrics": entries})
        told = {"path": str(subject.path), "method": subject.method, "views": views, "scene": scene}
        self.recipe["subjects"][subject.name] = {**told, "metrics": entries}
        values = {(name, key): v for name, e in entries.items() for key, v in e["values"].items()}
        return Row(subject.name, subject.method, values)

    def _all(self, method: str, judge: Judge, names: list[str], device: torch.device) -> None:
        try:
            measured = judge.conclude()
        except ScoreDistillationError as error:
            judge.metric.reset()
            tell(f"score-distill: {method}, {judge.name}: {error}")
            return
        entry = {**judge.entry([measured], {}, device), "method": method, "subjects": names}
        self.recipe["methods"].setdefault(method, {})[judge.name] = entry
        for name in dict.fromkeys(names):
            told = self.recipe["subjects"][name]
            record = {key: told[key] for key in ("views", "scene")}
            self._write(
                Path(told["path"]) / "metrics.json", {**record, "metrics": {judge.name: entry}}
            )
        values = {(judge.name, key): value for key, value in measured.values.items()}
        self.of_methods.setdefault(method, {}).update(values)

    def _write(self, path: Path, told: Table) -> None:
        """What cannot be written is told; the table and the report have it all the same."""
        if not told["metrics"]:
            return
        try:
            dropped = write_record(path, told)
        except ScoreDistillationError as error:
            tell(f"score-distill: not recorded: {error}")
            return
        lost = f", without {', '.join(dropped)}: of other views or another scene" if dropped else ""
        line = f"wrote {path}{lost}"
        if line not in self._told:  # metrics of whole methods are written one after the other
            self._told.add(line)
            tell(line)


def _alone(judge: Judge, name: str, objects: Sequence[Views], device: torch.device) -> Table | None:
    """Of each object; one of several that is refused does not cost the others their numbers."""
    measured, prompts = [], []
    for each in objects:
        try:
            measured.append(judge.measure(each))
            prompts.append(each.prompt)
        except ScoreDistillationError as error:
            of = f", '{each.prompt}'" if len({one.prompt for one in objects}) > 1 else ""
            tell(f"score-distill: {name}{of}, {judge.name}: {error}")
    if not measured:
        return None
    entry = judge.entry(measured, objects[0].recipe, device)
    return {**entry, "prompts": prompts} if len(set(prompts)) > 1 else entry


def tell(line: str) -> None:
    """On stderr: stdout has the table alone."""
    print(line, file=sys.stderr, flush=True)
