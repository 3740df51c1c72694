"""The figure of `diagnose`: each line is what was measured."""

from io import BytesIO
from math import inf, isnan, nan

import pytest
from PIL import Image

from sd_core.diagnosis import Diagnosed
from sd_core.diagnosis_figure import PANELS, diagnosis_figure
from sd_core.diagnostics import Spread

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure


def row(method, step, t, *, variance, cosine=0.5, correlation=0.9, alignment=0.8):
    interval = (variance / 2, variance * 2)
    found = Spread(1.0, variance, variance, interval, cosine)
    return Diagnosed(method, step, t, found, correlation, alignment, "nothing to learn")


ROWS = [
    row("sds", 0, 900, variance=4.0, cosine=0.1, correlation=0.2, alignment=0.3),
    row("sds", 0, 100, variance=2.0, cosine=0.4, correlation=0.5, alignment=0.6),
    row("jsd", 0, 100, variance=8.0, correlation=nan),
    row("jsd", 0, 900, variance=inf, correlation=nan),
    row("sds", 7, 100, variance=1.0),
    row("jsd", 7, 100, variance=3.0),
]


@pytest.fixture
def figure(monkeypatch):
    """What was drawn, before it became a png."""
    figures = []
    save = Figure.savefig

    def saved(drawn, *arguments, **options):
        figures.append(drawn)
        save(drawn, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", saved)
    with Image.open(BytesIO(diagnosis_figure(ROWS))) as picture:
        assert picture.format == "PNG"
    return figures[0]


def lines(panel):
    return {
        line.get_label(): list(zip(*line.get_data(), strict=True))
        for line in panel.get_lines()
        if not line.get_label().startswith("_")
    }


def test_a_row_of_panels_for_each_step(figure):
    assert len(figure.axes) == 2 * len(PANELS)
    assert [panel.get_title() for panel in figure.axes[:4]] == list(PANELS)
    assert [figure.axes[0].get_ylabel(), figure.axes[4].get_ylabel()] == ["step 0", "step 7"]


def test_a_line_is_a_method_over_rising_t(figure):
    variance, cosine, correlation, alignment = map(lines, figure.axes[:4])
    assert variance["sds"] == [(100, 2.0), (900, 4.0)]
    assert cosine["sds"] == [(100, 0.4), (900, 0.1)]
    assert correlation["sds"] == [(100, 0.5), (900, 0.2)]
    assert alignment["sds"] == [(100, 0.6), (900, 0.3)]
    assert lines(figure.axes[4])["jsd"] == [(100, 3.0)]


def test_what_is_not_finite_leaves_a_gap(figure):
    (_, first), (_, second) = lines(figure.axes[0])["jsd"]
    assert first == 8.0 and isnan(second)
    assert all(isnan(value) for _, value in lines(figure.axes[2])["jsd"])


def test_a_bar_is_the_interval_of_a_relative_variance(figure):
    bars = [segment for each in figure.axes[0].collections for segment in each.get_segments()]
    assert sorted((float(x), low, high) for (x, low), (_, high) in (b.tolist() for b in bars)) == [
        (100.0, 1.0, 4.0),
        (100.0, 4.0, 16.0),
        (900.0, 2.0, 8.0),
    ]


def test_the_legend_names_each_method_once(figure):
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["sds", "jsd"]
