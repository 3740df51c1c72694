"""The figure of a report: a panel of bars for each number, a bar for each method."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from io import BytesIO
from math import ceil
from textwrap import fill
from typing import Any

from sd_core.report_formats import MethodRow, columns_of
from sd_core.tables import ARROWS, Column, headings

PANELS_ABREAST = 4


def has_matplotlib() -> bool:
    """Whether the figure can be drawn here."""
    try:
        import_module("matplotlib")
    except ImportError:
        return False
    return True


def report_figure(
    rows: Sequence[MethodRow], higher_is_better: Mapping[str, bool | None], *, made: str
) -> bytes:
    """A png; at least one method has a number. `made` says what the lines across bars are.

    No window is opened and no backend is set: Agg draws this figure alone.
    """
    columns = columns_of(rows, higher_is_better)
    abreast = min(len(columns), PANELS_ABREAST)
    down = ceil(len(columns) / abreast)
    names = [fill(" ".join(row.method.split()), 24) for row in rows]
    lines = sum(1.4 + name.count("\n") for name in names)
    figure = import_module("matplotlib.figure").Figure(
        figsize=(2.0 + 3.4 * abreast, down * (1.1 + 0.24 * lines) + 0.4), layout="constrained"
    )
    import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    figure.get_layout_engine().set(wspace=0.08, hspace=0.08)
    panels = figure.subplots(down, abreast, squeeze=False, sharey=True).flatten().tolist()
    for panel in panels[len(columns) :]:
        panel.set_visible(False)
    for panel, column, name in zip(panels, columns, headings(columns), strict=False):
        arrow = ARROWS[higher_is_better[column[0]]]
        panel.set_title(fill(name, 34) + arrow, fontsize=10, parse_math=False)
        _draw(panel, rows, column)
    for panel in panels[::abreast]:
        panel.set_yticks(range(len(rows)), labels=names, parse_math=False)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)  # the first method above
    if any(cell.interval for row in rows for cell in row.cells.values()):
        figure.supxlabel(f"Lines: {made}.", fontsize=8, color="dimgrey")
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    return picture.getvalue()


def _draw(panel: Any, rows: Sequence[MethodRow], column: Column) -> None:
    """Bars from zero, and their numbers in a column of text at the right."""
    panel.tick_params(axis="y", length=0)
    panel.spines[["left", "top", "right"]].set_visible(False)
    panel.ticklabel_format(axis="x", scilimits=(-3, 4))
    panel.locator_params(axis="x", nbins=4)
    panel.axvline(0, color="black", linewidth=1.0)
    for place, row in enumerate(rows):
        cell = row.cells.get(column)
        text = "–" if cell is None else f"{cell.mean:.4g}"
        panel.text(1.03, place, text, transform=panel.get_yaxis_transform(), va="center")
        if cell is None:
            continue
        panel.barh(place, cell.mean, height=0.62, color=f"C{place % 10}", alpha=0.75)
        if cell.interval is not None:
            low, high = cell.interval
            panel.plot([low, high], [place, place], "|-", color="black", linewidth=1.2)
