"""The figure of `score-distill diagnose`: a row of panels for each step, a line for each method."""

from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from math import inf, isfinite
from typing import Any

from sd_core.diagnosis import Diagnosed
from sd_core.errors import ConfigError

PANELS = (
    "relative variance",
    "cosine with the mean of the others",
    "correlation of the two terms",
    "cosine of the two terms",
)


def check_matplotlib() -> None:
    """Before anything is computed."""
    try:
        import_module("matplotlib")
    except ImportError:
        raise ConfigError(
            "--output draws a figure, which needs matplotlib. "
            'Install it: pip install "sd-core[figures]", or leave --output out.'
        ) from None


def diagnosis_figure(rows: Sequence[Diagnosed]) -> bytes:
    """A png. No window is opened and no backend is set: Agg draws this figure alone."""
    steps = list(dict.fromkeys(row.step for row in rows))
    figure = import_module("matplotlib.figure").Figure(
        figsize=(17, 3.6 * len(steps)), layout="constrained"
    )
    import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    axes = figure.subplots(len(steps), len(PANELS), squeeze=False).tolist()
    for step, panels in zip(steps, axes, strict=True):
        _draw_row(panels, [row for row in rows if row.step == step])
        panels[0].set_ylabel(f"step {step}")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right upper")
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    return picture.getvalue()


def _draw_row(panels: Sequence[Any], rows: Sequence[Diagnosed]) -> None:
    for title, panel in zip(PANELS, panels, strict=True):
        panel.set_title(title)
        panel.set_xlabel("t")
    finite = [row.spread.relative_variance for row in rows]
    top = 10 * max((value for value in finite if 0 < value < inf), default=1.0)
    methods = list(dict.fromkeys(row.method for row in rows))
    for number, method in enumerate(methods):
        width = 0.5 + len(methods) - number  # so that equal lines are all seen
        own = sorted((row for row in rows if row.method == method), key=lambda row: row.t)
        t = [row.t for row in own]
        values = (
            [row.spread.relative_variance for row in own],
            [row.spread.cosine for row in own],
            [row.correlation for row in own],
            [row.alignment for row in own],
        )
        for panel, line in zip(panels, values, strict=True):
            known = [value if isfinite(value) else float("nan") for value in line]
            panel.plot(t, known, "o-", color=f"C{number}", linewidth=width, label=method)
        for row in own:  # what has no upper end leaves the panel
            low, high = row.spread.interval
            if 0 < low < inf:
                panels[0].vlines(row.t, low, min(high, 10 * top), color=f"C{number}", alpha=0.5)
    panels[0].set_yscale("log")
    panels[0].set_ylim(top=top)
    for panel in panels[1:]:
        panel.set_ylim(-1.05, 1.05)
        panel.axhline(0, color="grey", linewidth=0.5)
