"""What a report says of several methods, as text: markdown, CSV and LaTeX.

Numbers are shown to four digits, and the marks of the best two go by what is shown: two numbers
that read alike are marked alike. CSV has all digits and no marks.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Literal

from sd_core.tables import ARROWS, Column, Row, headings, markdown

Mark = Literal["best", "second"]
_Field = str | int | float | None

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        **{each: f"\\{each}" for each in "_%&#${}"},
        **{each: f"{{{each}}}" for each in "[*"},  # after a \\ these would be its arguments
    }
)


@dataclass(frozen=True)
class Cell:
    """A method's number in one column.

    Of scope "object": the mean over n runs, with what they tell of its spread where n > 1. Of
    scope "method": measured once, for all runs together, so n = 1 and there is no spread.
    """

    mean: float
    n: int = 1
    std: float | None = None
    interval: tuple[float, float] | None = None
    scope: Literal["object", "method"] = "object"


@dataclass(frozen=True)
class MethodRow:
    """A method, how many runs of it have been measured, and its numbers."""

    method: str
    runs: int
    cells: Mapping[Column, Cell]


def columns_of(
    rows: Sequence[MethodRow], higher_is_better: Mapping[str, bool | None]
) -> list[Column]:
    """All columns that any method has, in the order of the metrics in `higher_is_better`."""
    order = list(higher_is_better)
    found = dict.fromkeys(column for row in rows for column in row.cells)
    return sorted(found, key=lambda column: order.index(column[0]))


def marks(
    rows: Sequence[MethodRow], higher_is_better: Mapping[str, bool | None]
) -> dict[tuple[str, Column], Mark]:
    """By method and column: the best number and the next one, each by all that show it.

    Nothing where neither direction is better, or where no two methods have the column.
    """
    found: dict[tuple[str, Column], Mark] = {}
    for column in columns_of(rows, higher_is_better):
        shown = {
            row.method: float(_shown(row.cells[column])) for row in rows if column in row.cells
        }
        higher = higher_is_better[column[0]]
        if higher is None or len(shown) < 2:
            continue
        best, *others = sorted(set(shown.values()), reverse=higher)
        for method, number in shown.items():
            if number == best:
                found[method, column] = "best"
            elif number == others[0]:
                found[method, column] = "second"
    return found


def markdown_report(
    rows: Sequence[MethodRow], higher_is_better: Mapping[str, bool | None], *, made: str
) -> str:
    """Two tables: mean ± std with the marks, then the intervals, of which `made` says how.

    The second best is in italics, as GitHub strips the <u> that would underline it.
    """
    columns = columns_of(rows, higher_is_better)
    arrows = [ARROWS[higher_is_better[metric]] for metric, _ in columns]
    names = [name + arrow for name, arrow in zip(headings(columns), arrows, strict=True)]
    found = marks(rows, higher_is_better)
    style = {"best": "**{}**", "second": "_{}_", None: "{}"}
    means, intervals = [], []
    for row in rows:
        cells = [(row.cells.get(column), found.get((row.method, column))) for column in columns]
        texts = [_text(cell, row, style[mark], "±") for cell, mark in cells]
        means.append([row.method, str(row.runs), *texts])
        intervals.append([row.method, *(_interval(cell) for cell, _ in cells)])
    parts = [
        markdown(["method", "runs", *names], means),
        "Mean ± sample standard deviation over runs. A number without ± was measured once: for "
        "all runs of the method together, or for its only run.",
    ]
    if found:
        parts.append("**Best** and _second best_ of a column; what reads alike is marked alike.")
    if any(cell.interval for row in rows for cell in row.cells.values()):
        parts += [f"{made}:", markdown(["method", *names], intervals)]
    return "\n\n".join([*parts, "What was evaluated, and how: report.json."]) + "\n"


def latex_table(rows: Sequence[MethodRow], higher_is_better: Mapping[str, bool | None]) -> str:
    """A tabular for \\input that needs no package; best \\textbf, second best \\underline."""
    columns = columns_of(rows, higher_is_better)
    arrows = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}
    names = [
        _escaped(name) + arrows[higher_is_better[metric]]
        for name, (metric, _) in zip(headings(columns), columns, strict=True)
    ]
    found = marks(rows, higher_is_better)
    style = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", None: "{}"}
    lines = []
    for row in rows:
        cells = [(row.cells.get(column), found.get((row.method, column))) for column in columns]
        texts = [_text(cell, row, style[mark], r"$\pm$") for cell, mark in cells]
        numbers = [text.replace("-", "$-$") for text in texts]
        lines.append([_escaped(row.method), str(row.runs), *numbers])
    body = [" & ".join(line) + r" \\" for line in (["method", "runs", *names], *lines)]
    return "\n".join(
        [
            "% Mean and sample standard deviation over runs. What was evaluated: report.json.",
            rf"\begin{{tabular}}{{l{'r' * (1 + len(columns))}}}",
            *(r"\hline", body[0], r"\hline", *body[1:], r"\hline"),
            r"\end{tabular}",
            "",
        ]
    )


def methods_csv(rows: Sequence[MethodRow], higher_is_better: Mapping[str, bool | None]) -> str:
    """A line for each number of each method; empty where a number has no spread."""
    lines: list[list[_Field]] = []
    for row in rows:
        for column in columns_of([row], higher_is_better):
            cell = row.cells[column]
            low, high = cell.interval or (None, None)
            lines.append([row.method, *column, cell.n, cell.mean, cell.std, low, high])
    return _csv(["method", "metric", "value", "n", "mean", "std", "low", "high"], lines)


def runs_csv(rows: Sequence[Row]) -> str:
    """A line for each number of each run."""
    lines: list[list[_Field]] = [
        [row.name, row.method, *column, number]
        for row in rows
        for column, number in row.values.items()
    ]
    return _csv(["run", "method", "metric", "value", "number"], lines)


def _csv(header: Sequence[str], lines: Sequence[Sequence[_Field]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *lines])
    return text.getvalue()


def _shown(cell: Cell) -> str:
    return f"{cell.mean:.4g}"


def _text(cell: Cell | None, row: MethodRow, style: str, plus_minus: str) -> str:
    """Only the number itself is marked; n is told where the column lacks some of the runs."""
    if cell is None:
        return ""
    spread = "" if cell.std is None else f" {plus_minus} {cell.std:.2g}"
    fewer = cell.scope == "object" and cell.n < row.runs
    return style.format(_shown(cell)) + spread + (f" (n = {cell.n})" if fewer else "")


def _interval(cell: Cell | None) -> str:
    if cell is None or cell.interval is None:
        return ""
    low, high = cell.interval
    return f"{low:.4g} to {high:.4g}"


def _escaped(name: str) -> str:
    return " ".join(name.split()).translate(_LATEX)
