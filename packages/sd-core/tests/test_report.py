"""Reports: the statistics against enumeration, the texts against what a person would write."""

import csv
import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from io import StringIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from sd_core.errors import ConfigError, RunFolderError
from sd_core.report import (
    FILES,
    bootstrap_interval,
    check_report_folder,
    method_rows,
    write_report,
)
from sd_core.report_formats import (
    Cell,
    MethodRow,
    columns_of,
    headings,
    latex_table,
    markdown_report,
    marks,
    methods_csv,
    runs_csv,
)
from sd_core.tables import Row

CLIP, FID, FACES = ("clip", "score"), ("fid", "distance"), ("faces", "count")
BETTER = {"clip": True, "fid": False, "faces": None}
RUNS = [
    Row("a", "sds", {CLIP: 1.0, FACES: 2.0}),
    Row("b", "vsd", {CLIP: 5.0, FACES: 1.0}),
    Row("c", "sds", {CLIP: 2.0}),
    Row("d", "sds", {CLIP: 6.0, FACES: 4.0}),
    Row("failed", "sds", {}),
]
OF_METHODS = {"sds": {FID: 100.5}, "vsd": {FID: 80.25}}


def one_column(higher=True, **means):
    rows = [MethodRow(name, 1, {CLIP: Cell(mean)}) for name, mean in means.items()]
    return {name: mark for (name, _), mark in marks(rows, {"clip": higher}).items()}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def written(folder, runs=RUNS, recipe=None, **of_methods):
    return write_report(
        folder,
        runs,
        of_methods=of_methods or OF_METHODS,
        higher_is_better=BETTER,
        recipe=recipe or {"views": {"count": 24}},
    )


@pytest.mark.parametrize("values", [[0.0, 1.0, 10.0], [0.0, 1.0, 10.0, 100.0]])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_an_interval_has_the_quantiles_of_all_resamples_there_are(values, level):
    n, resamples = len(values), 20_000
    totals = Counter(sum(drawn) for drawn in product(values, repeat=n))
    share = {total / n: count / n**n for total, count in totals.items()}
    low, high = bootstrap_interval(values, level=level, resamples=resamples)
    tail = (1 - level) / 2
    error = 4 * math.sqrt(tail * (1 - tail) / resamples)
    below = sum(p for mean, p in share.items() if mean < low - 1e-9)
    above = sum(p for mean, p in share.items() if mean > high + 1e-9)
    upto = sum(p for mean, p in share.items() if mean <= low + 1e-9)
    downto = sum(p for mean, p in share.items() if mean >= high - 1e-9)
    assert below - error <= tail <= upto + error
    assert above - error <= tail <= downto + error


def test_an_interval_of_three_values_spans_them_as_each_end_has_more_than_a_fortieth():
    assert bootstrap_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)  # (1/3)³ > 0.025


def test_intervals_of_gaussian_samples_hold_the_mean_about_as_often_as_they_say():
    samples = np.random.default_rng(3).normal(7.0, 2.0, size=(400, 40)).tolist()
    found = [bootstrap_interval(x, resamples=400, seed=i) for i, x in enumerate(samples)]
    held = sum(low <= 7.0 <= high for low, high in found) / len(found)
    assert 0.90 < held < 0.98  # 0.942 in the long run, with a standard error of 0.012
    widths = [high - low for low, high in found]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 2.0 / math.sqrt(40), rel=0.05)


def test_the_interval_of_equal_values_is_that_value_to_the_last_bit():
    assert bootstrap_interval([0.1] * 7) == (0.1, 0.1)


def test_one_value_has_no_interval():
    assert bootstrap_interval([0.3]) is None


def test_an_interval_depends_on_the_seed_but_not_on_the_order_of_the_values():
    values = [0.3, -1.5, 2.25, 0.1, 8.0]
    assert bootstrap_interval(values) == bootstrap_interval(values[::-1])
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values)


def test_a_method_has_mean_and_sample_deviation_of_the_runs_that_have_the_value():
    sds, vsd = method_rows(RUNS, OF_METHODS)
    assert (sds.method, sds.runs, vsd.method, vsd.runs) == ("sds", 3, "vsd", 1)
    std = math.sqrt((4 + 1 + 9) / 2)  # of 1, 2, 6 around 3
    clip, faces = sds.cells[CLIP], sds.cells[FACES]
    assert (clip.mean, clip.n, clip.std) == (3.0, 3, pytest.approx(std))
    assert (faces.mean, faces.n, faces.std) == (3.0, 2, pytest.approx(math.sqrt(2)))
    assert (clip.interval, faces.interval) == ((1.0, 6.0), (2.0, 4.0))
    assert vsd.cells[CLIP] == Cell(5.0, 1, None, None)


def test_what_was_measured_for_a_whole_method_has_no_spread():
    sds, vsd, other = method_rows(RUNS, {**OF_METHODS, "other": {FID: 1.0}})
    assert sds.cells[FID] == Cell(100.5, 1, None, None, "method")
    assert vsd.cells[FID].mean == 80.25
    assert (other.method, other.runs, list(other.cells)) == ("other", 0, [FID])


def test_columns_stand_in_the_order_of_the_metrics():
    assert columns_of(method_rows(RUNS, OF_METHODS), BETTER) == [CLIP, FID, FACES]


def test_a_heading_names_the_metric_where_the_value_alone_would_not_do():
    columns = [("fid", "mean"), ("kid", "mean"), ("kid", "std")]
    assert headings(columns) == ["fid mean", "kid mean", "std"]


def test_the_best_is_the_highest_or_the_lowest_as_the_metric_says():
    assert one_column(True, a=1.0, b=3.0, c=2.0) == {"b": "best", "c": "second"}
    assert one_column(False, a=1.0, b=3.0, c=2.0) == {"a": "best", "c": "second"}


def test_nothing_is_marked_where_neither_direction_is_better():
    assert one_column(None, a=1.0, b=3.0) == {}


def test_a_single_method_is_not_the_best():
    assert one_column(True, a=1.0) == {}
    rows = [MethodRow("a", 1, {CLIP: Cell(1.0)}), MethodRow("b", 1, {FID: Cell(1.0)})]
    assert marks(rows, BETTER) == {}


def test_methods_without_the_value_are_passed_over():
    rows = [
        MethodRow("a", 1, {CLIP: Cell(1.0), FID: Cell(1.0)}),
        MethodRow("b", 1, {FID: Cell(3.0)}),
        MethodRow("c", 1, {CLIP: Cell(2.0), FID: Cell(2.0)}),
    ]
    assert marks(rows, BETTER) == {
        **{("c", CLIP): "best", ("a", CLIP): "second"},
        **{("a", FID): "best", ("c", FID): "second"},
    }


def test_equal_numbers_share_a_mark_and_the_next_number_is_still_second():
    shared = {"a": "best", "b": "best", "c": "second", "d": "second"}
    assert one_column(True, a=3.0, b=3.0, c=2.0, d=2.0, e=1.0) == shared
    assert one_column(True, a=1.0, b=1.0) == {"a": "best", "b": "best"}


def test_numbers_that_read_alike_are_marked_alike():
    assert one_column(True, a=0.33331, b=0.33334, c=0.3332) == {
        **{"a": "best", "b": "best", "c": "second"}
    }


def test_the_markdown_report_has_means_with_marks_and_then_the_intervals():
    lines = markdown_report(method_rows(RUNS, OF_METHODS), BETTER, made="95% of it").splitlines()
    assert cells(lines[0]) == ["method", "runs", "score ↑", "distance ↓", "count"]
    assert cells(lines[2]) == ["sds", "3", "_3_ ± 2.6", "_100.5_", "3 ± 1.4 (n = 2)"]
    assert cells(lines[3]) == ["vsd", "1", "**5**", "**80.25**", "1"]
    start = lines.index("95% of it:")
    assert cells(lines[start + 2]) == ["method", "score ↑", "distance ↓", "count"]
    assert [part.strip() for part in lines[start + 4].split("|")[1:-1]] == [
        *("sds", "1 to 6", "", "2 to 4")
    ]
    assert any(line.startswith("**Best** and _second best_") for line in lines)


def test_marks_and_intervals_are_not_explained_where_there_are_none():
    text = markdown_report(method_rows(RUNS[:1], {}), BETTER, made="95% of it")
    assert "95%" not in text and "Best" not in text


def test_the_latex_table_is_a_plain_tabular():
    assert latex_table(method_rows(RUNS, OF_METHODS), BETTER).splitlines()[1:] == [
        r"\begin{tabular}{lrrrr}",
        r"\hline",
        r"method & runs & score $\uparrow$ & distance $\downarrow$ & count \\",
        r"\hline",
        r"sds & 3 & \underline{3} $\pm$ 2.6 & \underline{100.5} & 3 $\pm$ 1.4 (n = 2) \\",
        r"vsd & 1 & \textbf{5} & \textbf{80.25} & 1 \\",
        r"\hline",
        r"\end{tabular}",
    ]


def test_minus_signs_in_latex_are_those_of_formulas():
    rows = [MethodRow("a-b", 2, {FACES: Cell(-2.5e-7, 2, 0.5)})]
    assert r"a-b & 2 & $-$2.5e$-$07 $\pm$ 0.5 \\" in latex_table(rows, BETTER)


AWKWARD = "_%&#${}~^\\<>|[*\n"


def test_every_character_that_latex_would_act_on_is_escaped():
    rows = [MethodRow(AWKWARD, 1, {("m", "a_b"): Cell(1.0)})]
    line = latex_table(rows, {"m": None}).splitlines()[5]
    assert line == (
        r"\_\%\&\#\$\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
        r"\textless{}\textgreater{}\textbar{}{[}{*} & 1 & 1 \\"
    )
    assert r"& a\_b \\" in latex_table(rows, {"m": None})


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_the_latex_table_compiles_without_a_package(tmp_path):
    names = [AWKWARD, "[1pt]", "*", *AWKWARD.strip()]
    rows = [
        MethodRow(name, 2, {CLIP: Cell(float(i), 2, 0.1), FID: Cell(-1.0)})
        for i, name in enumerate(names)
    ]
    (tmp_path / "table.tex").write_text(latex_table(rows, BETTER))
    (tmp_path / "all.tex").write_text(
        r"\documentclass{article}\begin{document}\input{table}\end{document}"
    )
    call = ["pdflatex", "-draftmode", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1000:]


def test_csv_has_all_digits_and_no_marks():
    rows = method_rows([Row("a", "x, y", {CLIP: 0.1}), Row("b", "x, y", {CLIP: 0.2})], {})
    rows += method_rows([], {'"z"': {FID: 1 / 3}})
    first, second = csv.DictReader(StringIO(methods_csv(rows, BETTER)))
    assert list(first) == ["method", "metric", "value", "n", "mean", "std", "low", "high"]
    assert [first[key] for key in ("method", "metric", "value", "n")] == ["x, y", *CLIP, "2"]
    std = math.sqrt(0.005)
    found = [float(first[key]) for key in ("mean", "std", "low", "high")]
    assert found == pytest.approx([0.15, std, 0.1, 0.2])
    assert list(second.values()) == ['"z"', *FID, "1", repr(1 / 3), "", "", ""]


def test_the_csv_of_runs_has_a_line_for_each_number():
    assert runs_csv([RUNS[0], RUNS[4], Row("e", "vsd", {FID: 1 / 3})]).splitlines() == [
        "run,method,metric,value,number",
        "a,sds,clip,score,1.0",
        "a,sds,faces,count,2.0",
        "e,vsd,fid,distance,0.3333333333333333",
    ]


def test_a_report_is_a_folder_with_every_format(tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "new" / "report"
    assert written(folder) is None
    assert {path.name for path in folder.iterdir()} == set(FILES)
    methods = method_rows(RUNS, OF_METHODS)
    assert (folder / "table.tex").read_text("utf-8") == latex_table(methods, BETTER)
    assert (folder / "table.csv").read_text("utf-8") == methods_csv(methods, BETTER)
    assert (folder / "runs.csv").read_text("utf-8") == runs_csv(RUNS)
    assert "95% intervals of the mean" in (folder / "table.md").read_text("utf-8")
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in folder.parent.iterdir()] == ["report"]


@pytest.fixture
def no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_report_json_holds_every_number_and_what_was_evaluated(tmp_path, no_matplotlib):
    written(tmp_path / "r", recipe={"models": ["clip-é"]})
    text = (tmp_path / "r/report.json").read_text("utf-8")
    report = json.loads(text)
    assert "clip-é" in text  # to be read by people too
    assert report["recipe"] == {"models": ["clip-é"]}
    assert report["interval"]["level"] == 0.95
    assert list(report["higher_is_better"].items()) == list(BETTER.items())
    sds, vsd = report["methods"]
    assert (sds["method"], sds["runs"]) == ("sds", 3)
    assert sds["values"]["fid"] == {"distance": {"scope": "method", "n": 1, "mean": 100.5}}
    assert sds["values"]["faces"]["count"] == {
        **{"scope": "object", "n": 2, "mean": 3.0, "std": math.sqrt(2), "low": 2.0, "high": 4.0}
    }
    assert vsd["values"]["clip"]["score"] == {"scope": "object", "n": 1, "mean": 5.0}
    assert report["runs"][0] == {
        **{"run": "a", "method": "sds"},
        "values": {"clip": {"score": 1.0}, "faces": {"count": 2.0}},
    }
    assert len(report["runs"]) == 5


def test_without_matplotlib_the_figure_alone_is_missing_and_a_line_says_so(tmp_path, no_matplotlib):
    remark = written(tmp_path / "r")
    assert (
        remark == 'no figure.png: it needs matplotlib. Install it: pip install "sd-core[figures]"'
    )
    assert {path.name for path in (tmp_path / "r").iterdir()} == set(FILES) - {"figure.png"}


def test_a_report_of_no_numbers_has_no_figure(tmp_path):
    assert written(tmp_path / "r", runs=[RUNS[4]], sds={}) == (
        "no figure.png: there is no number to draw"
    )


def test_an_earlier_report_is_replaced_with_all_its_files(tmp_path, no_matplotlib):
    written(tmp_path / "r")
    (tmp_path / "r/figure.png").write_bytes(b"of the earlier report")
    written(tmp_path / "r", runs=RUNS[:2])
    assert {path.name for path in (tmp_path / "r").iterdir()} == set(FILES) - {"figure.png"}
    assert (tmp_path / "r/runs.csv").read_text("utf-8") == runs_csv(RUNS[:2])


def test_a_report_behind_a_link_is_replaced_and_the_link_stays(tmp_path, no_matplotlib):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    written(tmp_path / "link")
    written(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real/table.md").is_file()


def test_a_write_that_fails_leaves_the_earlier_report_whole(tmp_path, no_matplotlib, monkeypatch):
    written(tmp_path / "r")
    before = {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()}
    write_text = Path.write_text

    def failing(path, *arguments, **options):
        if path.name == "report.json":
            raise OSError(5, "Input/output error")
        return write_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(RunFolderError, match=r"could not write .*Input/output error"):
        written(tmp_path / "r", runs=RUNS[:2])
    assert {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def refusal(folder):
    with pytest.raises(ConfigError) as raised:
        written(folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_folder_with_files_of_the_users_is_refused_and_kept(tmp_path, no_matplotlib):
    written(tmp_path / "r")
    (tmp_path / "r/notes.txt").write_text("mine")
    assert refusal(tmp_path / "r") == (
        f"{tmp_path / 'r'} holds notes.txt, which is not of an earlier report, and a report "
        "replaces its folder. Name another folder, or move that away."
    )
    assert (tmp_path / "r/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("text", [None, "{}", "[]", "not json", '{"report": "of another program"}'])
def test_files_that_are_only_called_like_ours_are_refused(tmp_path, text):
    (tmp_path / "r").mkdir()
    (tmp_path / "r/table.csv").write_text("mine")
    if text is not None:
        (tmp_path / "r/report.json").write_text(text)
    assert "is not of an earlier report" in refusal(tmp_path / "r")
    assert (tmp_path / "r/table.csv").read_text() == "mine"


def test_a_file_is_no_report_folder(tmp_path):
    (tmp_path / "r").write_text("mine")
    assert refusal(tmp_path / "r").endswith(
        "is a file, and a report is a folder. Name another place."
    )


def test_the_folder_that_the_user_is_in_is_not_replaced_under_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "is the one that you are in" in refusal(Path("."))


def test_a_new_or_empty_folder_can_take_a_report(tmp_path):
    (tmp_path / "empty").mkdir()
    check_report_folder(tmp_path / "empty")
    check_report_folder(tmp_path / "not/there/yet")
