"""Numbers of several runs side by side, as markdown that is aligned to be read as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

# A metric, and one of the values that it gives.
Column = tuple[str, str]


@dataclass(frozen=True)
class Row:
    """One run: its name, the method that made it, and what was measured."""

    name: str
    method: str
    values: Mapping[Column, float]


def comparison(rows: Sequence[Row], higher_is_better: Mapping[str, bool | None]) -> str:
    """A row for each run, then one for each method that has several.

    `higher_is_better` has the metrics in the order of their columns. A method's row holds
    m = Σx/n and s = √(Σ(x - m)²/(n - 1)) over its n runs, or over those that have the value.
    """
    order = list(higher_is_better)
    found = dict.fromkeys(column for row in rows for column in row.values)
    columns = sorted(found, key=lambda column: order.index(column[0]))
    header = ["run", *(_heading(column, columns, higher_is_better) for column in columns)]
    body = [[row.name, *(_shown(row.values.get(column)) for column in columns)] for row in rows]
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method and row.values]
        if len(own) > 1:
            body.append([f"{method}, mean ± std, n = {len(own)}", *_summary(own, columns)])
    return markdown(header, body)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers, without a last newline."""
    lines = [[_cell(text) for text in line] for line in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in (lines[0], rule, *lines[1:])
    )


def _summary(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    cells = []
    for column in columns:
        values = [row.values[column] for row in rows if column in row.values]
        spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
        count = f" (n = {len(values)})" if 0 < len(values) < len(rows) else ""
        cells.append(f"{_shown(mean(values) if values else None)}{spread}{count}")
    return cells


def _heading(
    column: Column, columns: Sequence[Column], higher_is_better: Mapping[str, bool | None]
) -> str:
    """The value's name; the metric's before it where two metrics call a value the same."""
    metric, value = column
    alone = sum(other == value for _, other in columns) == 1
    arrow = {True: " ↑", False: " ↓", None: ""}[higher_is_better[metric]]
    return (value if alone else f"{metric} {value}") + arrow


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
