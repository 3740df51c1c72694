"""Scores from a person's counts, against the row of RecDreamer's table 5 and by hand."""

import json
from statistics import mean, median, mode, stdev

import pytest
import torch

from sd_core.errors import ConfigError
from sd_metrics.janus_score import (
    Features,
    JanusOptions,
    JanusScore,
    janus_score,
    read_counts,
)
from tiny_eyes import context

KEYS = ("prompt", "run", "global", "global_expected", "local", "local_expected")
# Local features too many in ten runs: of up to 30 runs the only numbers whose scores have the mean,
# std, median, mode, min and max of the row "kangaroo". The row "bear" has no such numbers.
KANGAROO = [0, 0, 1, 1, 1, 1, 1, 2, 3, 3]


def rows_of(prompt, surplus):
    """One global feature as expected, and of 4 local ones so many too many."""
    return [(prompt, f"seed-{index}", 1, 1, 4 + each, 4) for index, each in enumerate(surplus)]


def as_csv(path, rows, keys=KEYS):
    lines = [",".join(map(str, row)) for row in (keys, *rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


def as_json(path, rows):
    path.write_text(json.dumps([dict(zip(KEYS, row, strict=True)) for row in rows]), "utf-8")
    return str(path)


def test_a_face_too_many_is_one_and_a_leg_too_many_a_half():
    one = Features(1, 4)
    assert janus_score(one, one) == 0
    assert janus_score(Features(3, 4), one) == 2
    assert janus_score(Features(1, 5), one) == 0.5
    assert janus_score(Features(2, 7), one) == 2.5
    assert janus_score(Features(1, 3), one) == -0.5


def test_the_row_kangaroo_of_table_5_comes_from_ten_runs(tmp_path):
    rows = read_counts(as_csv(tmp_path / "counts.csv", rows_of("kangaroo", KANGAROO)))
    scores = [janus_score(row.counted, row.expected) for row in rows]
    found = (mean(scores), stdev(scores), median(scores), mode(scores), min(scores), max(scores))
    # The std is cut after four digits, 0.52967.
    assert found == pytest.approx((0.65, 0.5296, 0.5, 0.5, 0, 1.5), abs=1e-4)


def measured(metric, prompt, name):
    metric.reset()
    metric.update(torch.zeros(2, 3, 4, 4), prompt, None)
    metric.end_object(name)
    return metric.compute()


def built(path):
    return JanusScore(JanusOptions(counts=path), context())


@pytest.mark.parametrize(("write", "name"), [(as_csv, "counts.csv"), (as_json, "counts.json")])
def test_a_run_has_the_score_of_its_own_row(tmp_path, write, name):
    metric = built(write(tmp_path / name, [*rows_of("bear", [2, 4]), ("owl", "x", 3, 1, 0, 0)]))
    assert measured(metric, "bear", "seed-0") == {"janus-score": 1.0}
    assert measured(metric, "bear", "seed-1") == {"janus-score": 2.0}
    assert measured(metric, "owl", "x") == {"janus-score": 2.0}
    assert JanusScore.higher_is_better is None  # 0 is right
    assert metric.recipe()["counted_by"] == "a person"


def refused(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "janus-score.counts" in message and "\n" not in message
    return message


def test_a_run_that_the_file_does_not_name_is_refused_by_name(tmp_path):
    metric = built(as_csv(tmp_path / "counts.csv", rows_of("bear", [0, 1])))
    wanted = "has no row for the run 'seed-2' of 'bear'"
    assert wanted in refused(measured, metric, "bear", "seed-2")
    assert "has no row for the run 'seed-0' of 'a fox'" in refused(
        measured, metric, "a fox", "seed-0"
    )


def test_without_a_file_or_objects_it_is_refused(tmp_path):
    assert "names no file, and a person counts" in refused(built, None)
    metric = built(as_csv(tmp_path / "counts.csv", rows_of("bear", [0])))
    with pytest.raises(ConfigError, match="no object yet"):
        metric.compute()


GOOD = ("bear", "seed-0", 1, 1, 4, 4)


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([], "has no row"),
        ([GOOD, GOOD], "two rows for the run 'seed-0' of 'bear'"),
        ([GOOD, ("bear", "seed-1", 1, 1, 4)], "row 2 of .* is not whole"),
        ([("bear", "", 1, 1, 4, 4)], "row 1 of .* is not whole"),
        ([("bear", "seed-1", 1, 1, "many", 4)], "row 1 of .* has 'many' for local"),
        ([("bear", "seed-1", -1, 1, 4, 4)], "has '-1' for global, expected a number"),
        ([("bear", "seed-1", 1.5, 1, 4, 4)], "has '1.5' for global"),
    ],
)
def test_a_file_with_a_slip_is_refused_by_its_row(tmp_path, rows, wanted):
    path = as_csv(tmp_path / "counts.csv", rows)
    with pytest.raises(ConfigError, match=wanted):
        read_counts(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    assert "cannot read" in refused(read_counts, str(tmp_path / "nowhere.csv"))
    assert "neither .csv nor .json" in refused(read_counts, str(tmp_path / "counts.txt"))
    path = tmp_path / "counts.json"
    path.write_text("{}", "utf-8")
    assert "holds no list of tables" in refused(read_counts, str(path))
    path.write_text("[1]", "utf-8")
    assert "row 1" in refused(read_counts, str(path))
    path.write_text("[", "utf-8")
    assert "cannot read" in refused(read_counts, str(path))


def test_a_column_that_is_missing_is_told(tmp_path):
    path = as_csv(tmp_path / "counts.csv", [("bear", "x", 1)], keys=("prompt", "run", "global"))
    assert "global_expected" in refused(read_counts, path)
