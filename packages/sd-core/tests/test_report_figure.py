"""The figure of a report: what is drawn is what was measured, and can be read."""

from io import BytesIO
from itertools import combinations

import pytest
from PIL import Image

from sd_core.report_figure import has_matplotlib, report_figure
from sd_core.report_formats import Cell, MethodRow

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from matplotlib.text import Text

CLIP, FID, FACES, RATIO = ("clip", "score"), ("fid", "fid"), ("janus", "faces"), ("prior", "ratio")
BETTER = {"clip": True, "fid": False, "janus": False, "prior": None}
ROWS = [
    MethodRow(
        "sds",
        4,
        {
            CLIP: Cell(0.28, 4, 0.01, (0.27, 0.3)),
            FID: Cell(120.3, scope="method"),
            RATIO: Cell(-164300.0, 4, 9000.0, (-370000.0, 140000.0)),
        },
    ),
    MethodRow(
        "vsd+a-mixture-of-two-methods-with-a-very-long-name",
        4,
        {
            CLIP: Cell(0.31, 4, 0.01, (0.3, 0.32)),
            FID: Cell(88.1, scope="method"),
            FACES: Cell(0.4, 4, 0.2, (0.25, 0.5)),
            RATIO: Cell(386400.0, 4, 9000.0, (190000.0, 690000.0)),
        },
    ),
    MethodRow("esd_$x$", 1, {CLIP: Cell(0.3), FACES: Cell(0.2)}),
]


def drawn(rows, higher_is_better, made="95% intervals"):
    """The png, and the figure that it was made of, which nobody else gets to see."""
    figures = []
    save = Figure.savefig

    def saved(figure, *arguments, **options):
        figures.append(figure)
        save(figure, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", saved)
        return report_figure(rows, higher_is_better, made=made), figures[-1]


@pytest.fixture(scope="module")
def usual():
    return drawn(ROWS, BETTER)


@pytest.fixture(scope="module")
def figure(usual):
    return usual[1]


def shown(figure):
    return [panel for panel in figure.axes if panel.get_visible()]


def texts(figure):
    """All that can be read, with where it stands."""
    found = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    hidden = {
        text for panel in figure.axes if not panel.get_visible() for text in panel.findobj(Text)
    }
    return {text: text.get_window_extent() for text in found if text not in hidden}


def ticks_in_view(panel):
    low, high = sorted(panel.get_xlim())
    return [
        label
        for place, label in zip(panel.get_xticks(), panel.get_xticklabels(), strict=True)
        if low <= place <= high
    ]


def test_the_figure_is_a_png(usual):
    png, _ = usual
    with Image.open(BytesIO(png)) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
    assert has_matplotlib()


def test_every_number_has_a_panel_with_the_direction_that_is_better(figure):
    assert [panel.get_title() for panel in shown(figure)] == [
        "score ↑",
        "fid ↓",
        "faces ↓",
        "ratio",
    ]


def test_bars_are_as_long_as_the_means_from_zero_and_lines_span_the_intervals(figure):
    for panel, column in zip(shown(figure), (CLIP, FID, FACES, RATIO), strict=True):
        cells = {place: row.cells[column] for place, row in enumerate(ROWS) if column in row.cells}
        bars = {bar.get_y() + bar.get_height() / 2: bar for bar in panel.patches}
        assert sorted(bars) == pytest.approx(sorted(cells))
        for bar, cell in zip(panel.patches, cells.values(), strict=True):
            assert (bar.get_x(), bar.get_width()) == (0, cell.mean)
        lines = [line for line in panel.lines if line.get_marker() == "|"]
        known = [(place, cell) for place, cell in cells.items() if cell.interval]
        assert [tuple(line.get_xdata()) for line in lines] == [cell.interval for _, cell in known]
        assert [line.get_ydata()[0] for line in lines] == [place for place, _ in known]


def test_every_bar_has_its_number_in_words_and_a_dash_where_there_is_none(figure):
    numbers = [[text.get_text() for text in panel.texts] for panel in shown(figure)]
    assert numbers == [
        ["0.28", "0.31", "0.3"],
        ["120.3", "88.1", "–"],
        ["–", "0.4", "0.2"],
        ["-1.643e+05", "3.864e+05", "–"],
    ]


def test_a_method_has_one_place_and_one_colour_in_all_panels(figure):
    colours = {}
    for panel in shown(figure):
        for bar in panel.patches:
            place = round(bar.get_y() + bar.get_height() / 2)
            colours.setdefault(place, set()).add(bar.get_facecolor())
    assert [len(colours[place]) for place in range(3)] == [1, 1, 1]
    assert len(set.union(*colours.values())) == 3
    assert shown(figure)[0].yaxis_inverted()  # the first method above


def test_names_are_written_as_they_are_and_broken_where_they_are_long(figure):
    labels = [label for label in shown(figure)[0].get_yticklabels() if label.get_text()]
    assert [label.get_text().replace("\n", "") for label in labels] == [row.method for row in ROWS]
    assert max(len(line) for label in labels for line in label.get_text().split("\n")) <= 24
    titles = [panel.title for panel in shown(figure)]
    assert not any(text.get_parse_math() for text in [*labels, *titles])


@pytest.mark.parametrize("metrics", [1, 4, 6])
def test_no_text_stands_on_another_or_leaves_the_picture(metrics):
    extra = [(f"metric-{i}", f"a value with a name of its own {i}") for i in range(metrics - 4)]
    rows = [
        MethodRow(row.method, row.runs, {**row.cells, **dict.fromkeys(extra, Cell(123456.7))})
        for row in ROWS
    ]
    better = {**BETTER, **{metric: True for metric, _ in extra}}
    if metrics == 1:
        rows = [MethodRow(row.method, row.runs, {CLIP: row.cells[CLIP]}) for row in rows]
    _, figure = drawn(rows, better, "95% intervals of the mean (bootstrap, 2000 resamples)")
    assert len(shown(figure)) == metrics
    figure.draw_without_rendering()
    boxes = texts(figure)
    out_of_view = {
        label
        for panel in shown(figure)
        for label in set(panel.get_xticklabels()) - set(ticks_in_view(panel))
    }
    boxes = {text: box for text, box in boxes.items() if text not in out_of_view}
    assert len(boxes) > 3 * metrics
    for (one, box), (other, another) in combinations(boxes.items(), 2):
        assert not box.overlaps(another), (one.get_text(), other.get_text())
    width, height = figure.bbox.size
    for text, box in boxes.items():
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, text.get_text()


def test_the_lines_are_explained_only_where_there_are_any(figure):
    assert figure.get_supxlabel() == "Lines: 95% intervals."
    _, figure = drawn([ROWS[2]], BETTER)
    assert figure.get_supxlabel() == ""
