"""Numbers of several runs side by side, as markdown that is aligned to be read as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from types import MappingProxyType

# A metric, and one of the values that it gives.
Column = tuple[str, str]

ARROWS = {True: " ↑", False: " ↓", None: ""}


@dataclass(frozen=True)
class Row:
    """One run: its name, the method that made it, and what was measured."""

    name: str
    method: str
    values: Mapping[Column, float]


def comparison(
    rows: Sequence[Row],
    higher_is_better: Mapping[str, bool | None],
    of_methods: Mapping[str, Mapping[Column, float]] = MappingProxyType({}),
) -> str:
    """A row for each run, then one for each method that has several, or numbers of its own.

    `higher_is_better` has the metrics in the order of their columns. A method's row holds
    m = Σx/n and s = √(Σ(x - m)²/(n - 1)) over its n runs, or over those that have the value, and
    as they are the numbers `of_methods` that were measured once for all its runs.
    """
    order = list(higher_is_better)
    told = [*(row.values for row in rows), *of_methods.values()]
    found = dict.fromkeys(column for values in told for column in values)
    columns = sorted(found, key=lambda column: order.index(column[0]))
    arrows = [ARROWS[higher_is_better[metric]] for metric, _ in columns]
    header = ["run", *(f"{n}{a}" for n, a in zip(headings(columns), arrows, strict=True))]
    body = [[row.name, *(_shown(row.values.get(column)) for column in columns)] for row in rows]
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method and row.values]
        alone = of_methods.get(method, {})
        if len(own) > 1 or alone:
            cells = _summary(own, columns) if len(own) > 1 else [""] * len(columns)
            together = [_shown(alone.get(column)) for column in columns]
            name = f"{method}, mean ± std, n = {len(own)}" if len(own) > 1 else f"{method}, all"
            body.append([name, *(one or all_ for one, all_ in zip(cells, together, strict=True))])
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


def headings(columns: Sequence[Column]) -> list[str]:
    """Each value's name; the metric's before it where two metrics call a value the same."""
    names = [value for _, value in columns]
    return [value if names.count(value) == 1 else f"{metric} {value}" for metric, value in columns]


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
