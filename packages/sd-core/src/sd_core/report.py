"""The report of `score-distill evaluate`: a folder of tables, all numbers, and a figure.

table.md, table.csv, table.tex   the methods side by side
runs.csv                         every number of every run
report.json                      all of it, with what was evaluated and how
figure.png                       where matplotlib is installed
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from sd_core.atomic import new_folder
from sd_core.errors import ConfigError
from sd_core.report_figure import has_matplotlib, report_figure
from sd_core.report_formats import (
    Cell,
    MethodRow,
    columns_of,
    latex_table,
    markdown_report,
    methods_csv,
    runs_csv,
)
from sd_core.tables import Column, Row

SCHEMA = 1
MADE_BY = "score-distill evaluate"
FILES = ("table.md", "table.csv", "table.tex", "runs.csv", "report.json", "figure.png")

LEVEL, RESAMPLES, SEED = 0.95, 2000, 0


def bootstrap_interval(
    values: Sequence[float], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float] | None:
    """The percentile interval of the mean of x_1 .. x_n (Efron and Tibshirani 1993, chapter 13).

    m*_b = Σ_i x_(j_bi)/n, b = 1 .. B, each j_bi uniform on 1 .. n; from the quantile
    (1 - level)/2 of the m*_b to the quantile (1 + level)/2. The order of the values does not
    matter. None for one value, which tells nothing of its spread. It is too short for few values,
    as the m*_b vary by s²(n - 1)/n² and not s²/n: at level 0.95 it holds the mean of a Gaussian
    75 times in 100 for n = 3, 83 for n = 5, 90 for n = 10, 94 for n = 40.
    """
    if len(values) < 2:
        return None
    known = np.sort(np.asarray(values, dtype=np.float64))
    apart = known - known[0]  # so that equal values give just that value
    drawn = np.random.default_rng(seed).integers(len(known), size=(resamples, len(known)))
    tail = (1 - level) / 2
    low, high = known[0] + np.quantile(apart[drawn].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def method_rows(
    rows: Sequence[Row], of_methods: Mapping[str, Mapping[Column, float]]
) -> list[MethodRow]:
    """Methods in the order in which they are met; `of_methods` was measured once for each.

    Of n runs that have a value: m = Σx/n, s = √(Σ(x - m)²/(n - 1)), and the bootstrap interval.
    """
    found = []
    for method in dict.fromkeys([*(row.method for row in rows), *of_methods]):
        every = [row for row in rows if row.method == method]
        own = [row for row in every if row.values]
        columns = dict.fromkeys(column for row in own for column in row.values)
        cells = {
            column: _cell([row.values[column] for row in own if column in row.values])
            for column in columns
        }
        for column, value in of_methods.get(method, {}).items():
            cells[column] = Cell(value, scope="method")
        found.append(MethodRow(method, len(own or every), cells))
    return found


def _cell(values: Sequence[float]) -> Cell:
    std = stdev(values) if len(values) > 1 else None
    return Cell(mean(values), len(values), std, bootstrap_interval(values))


def check_report_folder(folder: Path) -> None:
    """Refuse a folder that a report would overwrite something else in. Before anything is done."""
    place = folder.resolve()
    if place == Path.cwd():
        raise ConfigError(
            f"the report folder {folder} is the one that you are in, and a report replaces its "
            "folder. Name a new one inside it."
        )
    if not place.exists():
        return
    if not place.is_dir():
        raise ConfigError(f"{folder} is a file, and a report is a folder. Name another place.")
    names = sorted(path.name for path in place.iterdir())
    foreign = [name for name in names if name not in FILES]
    if names and not foreign and not is_report(place):
        foreign = names
    if foreign:
        raise ConfigError(
            f"{folder} holds {foreign[0]}, which is not of an earlier report, and a report "
            "replaces its folder. Name another folder, or move that away."
        )


def is_report(folder: Path) -> bool:
    """Whether it is a folder that `write_report` made."""
    try:
        table = json.loads((folder / "report.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(table, dict) and table.get("report") == MADE_BY


def write_report(
    folder: Path,
    rows: Sequence[Row],
    *,
    of_methods: Mapping[str, Mapping[Column, float]],
    higher_is_better: Mapping[str, bool | None],
    recipe: Mapping[str, Any],
) -> str | None:
    """Write the folder, whole or not at all, in place of an earlier report there.

    `rows` are the runs, `of_methods` what was measured once for all runs of a method. The metrics
    in `higher_is_better` are in the order of their columns. `recipe` is what was evaluated, as
    JSON. Returns a remark where there is no figure.
    """
    check_report_folder(folder)
    methods = method_rows(rows, of_methods)
    made = f"{LEVEL:.0%} intervals of the mean (bootstrap over runs, {RESAMPLES} resamples)"
    files = {
        "table.md": markdown_report(methods, higher_is_better, made=made),
        "table.csv": methods_csv(methods, higher_is_better),
        "table.tex": latex_table(methods, higher_is_better),
        "runs.csv": runs_csv(rows),
        "report.json": _json(rows, methods, higher_is_better, recipe),
    }
    remark, pictures = None, {}
    if not columns_of(methods, higher_is_better):
        remark = "no figure.png: there is no number to draw"
    elif not has_matplotlib():
        remark = 'no figure.png: it needs matplotlib. Install it: pip install "sd-core[figures]"'
    else:
        pictures = {"figure.png": report_figure(methods, higher_is_better, made=made)}
    with new_folder(folder.resolve()) as aside:
        for name, text in files.items():
            (aside / name).write_text(text, "utf-8", newline="\n")
        for name, picture in pictures.items():
            (aside / name).write_bytes(picture)
    return remark


def _json(
    rows: Sequence[Row],
    methods: Sequence[MethodRow],
    higher_is_better: Mapping[str, bool | None],
    recipe: Mapping[str, Any],
) -> str:
    report = {
        "report": MADE_BY,
        "schema": SCHEMA,
        "recipe": dict(recipe),
        "interval": {
            "kind": "percentile bootstrap of the mean over runs",
            **{"level": LEVEL, "resamples": RESAMPLES, "seed": SEED},
        },
        "higher_is_better": dict(higher_is_better),
        "methods": [
            {
                "method": row.method,
                "runs": row.runs,
                "values": _nested({column: _numbers(cell) for column, cell in row.cells.items()}),
            }
            for row in methods
        ],
        "runs": [
            {"run": row.name, "method": row.method, "values": _nested(row.values)} for row in rows
        ],
    }
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _numbers(cell: Cell) -> dict[str, Any]:
    low, high = cell.interval or (None, None)
    numbers = {"n": cell.n, "mean": cell.mean, "std": cell.std, "low": low, "high": high}
    known = {name: number for name, number in numbers.items() if number is not None}
    return {"scope": cell.scope, **known}


def _nested(values: Mapping[Column, Any]) -> dict[str, dict[str, Any]]:
    """By metric, then by the name of the value."""
    metrics: dict[str, dict[str, Any]] = {}
    for (metric, value), number in values.items():
        metrics.setdefault(metric, {})[value] = number
    return metrics
