"""Tables, against what a person would write."""

import math

import pytest

from sd_core.tables import Row, comparison, markdown

FACES, SHARE = ("faces", "count"), ("pose", "share")


def row(name, method="sds", **values):
    known = {"faces": FACES, "share": SHARE}
    return Row(name, method, {known[key]: value for key, value in values.items()})


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]


def test_a_table_is_aligned_markdown_with_numbers_to_the_right():
    assert markdown(["run", "faces"], [["bear", "2"], ["a long name", "0.125"]]) == (
        "| run         | faces |\n"
        "| ----------- | ----: |\n"
        "| bear        |     2 |\n"
        "| a long name | 0.125 |"
    )


def test_a_cell_cannot_break_its_table():
    assert markdown(["a|b"], [["two\nlines"]]).splitlines() == [
        "| a\\|b      |",
        "| --------- |",
        "| two lines |",
    ]


def test_one_run_is_one_row_without_a_mean():
    text = comparison([row("a", faces=2.0, share=1 / 3)], {"faces": None, "pose": True})
    assert cells(text)[0] == ["run", "count", "share ↑"]
    assert cells(text)[2:] == [["a", "2", "0.3333"]]


def test_runs_of_one_method_get_a_mean_and_the_sample_standard_deviation():
    rows = [row("a", share=1.0), row("b", "vsd", share=5.0), row("c", share=2.0)]
    text = comparison([*rows, row("d", share=6.0)], {"pose": False})
    assert cells(text)[0] == ["run", "share ↓"]
    spread = math.sqrt((4 + 1 + 9) / 2)  # of 1, 2, 6 around 3
    assert cells(text)[6:] == [["sds, mean ± std, n = 3", f"3 ± {spread:.2g}"]]


def test_a_mean_counts_only_the_runs_that_have_the_value():
    rows = [row("a", faces=1.0, share=1.0), row("b", share=3.0), row("c")]
    text = comparison(rows, {"faces": None, "pose": None})
    assert cells(text)[3:] == [
        ["b", "", "3"],
        ["c", "", ""],
        ["sds, mean ± std, n = 2", "1 (n = 1)", "2 ± 1.4"],
    ]


def test_a_value_that_no_run_of_the_method_has_stays_empty():
    rows = [row("a", share=1.0), row("b", share=1.0), row("c", "vsd", faces=1.0)]
    assert cells(comparison(rows, {"faces": None, "pose": None}))[-1][1:] == ["", "1 ± 0"]


@pytest.mark.parametrize("first", [FACES, SHARE])
def test_columns_stand_in_the_order_of_the_metrics_whatever_the_first_run_lacks(first):
    rows = [Row("a", "sds", {first: 1.0}), Row("b", "vsd", {FACES: 1.0, SHARE: 2.0})]
    assert cells(comparison(rows, {"pose": None, "faces": None}))[0] == ["run", "share", "count"]


def test_values_of_one_name_are_told_apart_by_their_metrics():
    values = {("fid", "mean"): 1.0, ("kid", "mean"): 2.0, ("kid", "std"): 3.0}
    text = comparison([Row("a", "sds", values)], {"fid": False, "kid": None})
    assert cells(text)[0] == ["run", "fid mean ↓", "kid mean", "std"]
