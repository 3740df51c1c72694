"""`evaluate` of pictures, of folders of runs, by metrics of whole methods, with a report."""

import json
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

import fake_metrics
import fake_plugin
import together_metrics
from sd_core import plugins as plugins_module
from sd_core.cli import main
from sd_core.plugins import load_plugins
from small_runs import SmallRun, table

SOLID = {"steps": 2, "renderer": "solid"}


@pytest.fixture(autouse=True)
def with_metrics(here, monkeypatch):
    extra = [fake_plugin, fake_metrics, together_metrics]
    load = partial(load_plugins, installed=False, extra=extra)
    monkeypatch.setattr(plugins_module, "load_plugins", load)


@pytest.fixture
def judged(capsys):
    """Gives exit code, the table's rows and the lines of stderr."""

    def call(*arguments):
        code = main(["evaluate", *arguments])
        out, err = capsys.readouterr()
        rows = [[c.strip() for c in line.strip("|").split(" | ")] for line in out.splitlines()]
        return code, rows, err.splitlines()

    return call


def run(name, prompt="two gaussians", **stage):
    options = table({**SOLID, **stage}, turntable_frames=0)
    return SmallRun({**options, "prompt": prompt}, Path(name)).go()


def pictures(folder, *greys, prompt=None):
    Path(folder).mkdir(parents=True)
    for index, grey in enumerate(greys):
        Image.new("RGB", (4, 4), (grey, grey, grey)).save(Path(folder, f"{index}.png"))
    if prompt is not None:
        captions = {f"{index}.png": prompt for index in range(len(greys))}
        Path(folder, "captions.json").write_text(json.dumps(captions))


def test_a_folder_of_pictures_is_judged_like_a_run(judged):
    pictures("theirs", 0, 255)
    code, rows, told = judged("theirs", "--prompt", "two bears", "--metrics", "picky")
    assert (code, told) == (0, ["wrote theirs/metrics.json"])
    assert rows[2] == ["theirs", "2"]
    record = json.loads(Path("theirs/metrics.json").read_text())
    assert record["views"] == {
        "pictures": {"two bears": 2},
        "size": [4, 4],
        "background": "as they are",
    }
    assert sorted(path.name for path in Path("theirs").iterdir()) == [
        "0.png",
        "1.png",
        "metrics.json",
    ]


def test_pictures_left_out_are_named_and_written_down(judged):
    pictures("theirs", 0, 255)
    Path("theirs/1.png").write_bytes(b"")
    assert judged("theirs", "--prompt", "two", "--metrics", "picky")[0] == 2
    assert not Path("theirs/metrics.json").exists()
    asked = ("theirs", "--prompt", "two", "--metrics", "picky", "--bad-pictures", "skip")
    code, rows, told = judged(*asked)
    assert code == 0 and rows[2] == ["theirs", "1"]
    assert told[0].startswith("theirs, left out: 1.png: cannot read the picture")
    record = json.loads(Path("theirs/metrics.json").read_text())
    assert list(record["scene"]["skipped"]) == ["1.png"]


def test_a_metric_that_must_know_the_cameras_refuses_pictures_in_one_line(judged):
    pictures("theirs", 0)
    code, _, told = judged("theirs", "--prompt", "two", "--metrics", "picky,glow")
    assert code == 0 and told[0].startswith("score-distill: theirs, glow: metric 'glow' must know")


def test_folders_within_a_folder_are_one_method_called_by_its_name(judged):
    run("study/ours/a"), run("study/ours/b", guidance="vsd")
    pictures("study/theirs/a", 0, prompt="two"), pictures("study/theirs/b", 255, prompt="two")
    code, rows, _ = judged("study", "--metrics", "picky")
    assert code == 0
    assert [row[0] for row in rows[2:]] == [
        *("study/ours/a", "study/ours/b", "study/theirs/a", "study/theirs/b"),
        *("ours, mean ± std, n = 2", "theirs, mean ± std, n = 2"),
    ]


def test_a_metric_of_whole_methods_sees_each_object_once(judged):
    pictures("theirs/a", 0, 102, prompt="two")
    pictures("theirs/b", 255, prompt="two")
    code, rows, told = judged("theirs", "--metrics", "spread,picky")
    assert code == 0
    assert rows[2:] == [
        ["a", "", "2"],
        ["b", "", "1"],
        ["theirs, mean ± std, n = 2", "0.8", "1.5 ± 0.71"],
    ]
    assert told == ["wrote theirs/a/metrics.json", "wrote theirs/b/metrics.json"]


def test_a_whole_method_that_cannot_be_judged_is_one_line(judged):
    pictures("theirs", 0)
    code, _, told = judged("theirs", "--prompt", "two", "--metrics", "spread")
    assert (code, told) == (
        2,
        ["score-distill: theirs, spread: one object alone has no spread. Give several."],
    )


def test_a_metric_may_choose_its_own_views_and_tell_how_they_vary(judged):
    run("a")
    assert judged("a", "--metrics", "above")[1][2] == ["a", "60"]
    entry = json.loads(Path("a/metrics.json").read_text())["metrics"]["above"]
    assert entry["views"]["count"] == 3 and entry["views"]["distance"] == 1.25
    assert entry["deviations"]["above"] == pytest.approx(0.0, abs=1e-4)


def test_the_report_has_tables_and_how_everything_was_measured(judged):
    run("ours/a"), run("ours/b")
    pictures("theirs", 0, 255, prompt="two")
    asked = ("ours", "theirs", "--metrics", "picky,spread", "--report", "report")
    code, _, told = judged(*asked)
    assert code == 0 and told[-1].startswith("wrote report")
    names = {path.name for path in Path("report").iterdir()}
    assert {"table.md", "table.csv", "table.tex", "runs.csv", "report.json"} <= names
    report = json.loads(Path("report/report.json").read_text())
    spread = json.dumps(report)
    assert '"subjects": ["a", "b"]' in spread and '"background"' in spread and '"seed"' in spread


def test_a_report_never_takes_the_place_of_anything_else(judged):
    run("a")
    pictures("mine", 0)
    code, _, told = judged("a", "--metrics", "picky", "--report", "mine")
    assert code == 2 and "mine" in told[0]
    assert not Path("a/metrics.json").exists()  # told before anything is computed


def test_the_models_are_those_of_the_prior_that_is_named(judged):
    pictures("theirs/a", 0, prompt="two"), pictures("theirs/b", 0, prompt="two")
    code, _, told = judged("theirs", "--metrics", "spread", "--prior", "no-such")
    assert code == 2 and told[0].startswith("score-distill: no prior named 'no-such'")
    judged("theirs", "--metrics", "spread", "--report", "report")
    found = json.dumps(json.loads(Path("report/report.json").read_text()))
    assert "openai/clip-vit-large-patch14" in found


def test_an_empty_folder_is_refused(judged):
    Path("empty/within").mkdir(parents=True)
    code, _, told = judged("empty", "--metrics", "picky")
    assert code == 2 and "there is neither a run nor a picture in it" in told[0]
