"""`evaluate` of pictures, of folders of runs, by metrics of whole methods, with a report."""

import json
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

import fake_metrics
import fake_plugin
import together_metrics
from sd_core import evaluation_record
from sd_core import plugins as plugins_module
from sd_core.cli import main
from sd_core.encoders.usual import Encoders
from sd_core.entries import PriorEntry
from sd_core.errors import RunFolderError
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
    assert set(record["scene"]) == {"pictures_sha256"}
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


def test_several_prompts_of_a_folder_are_measured_alone_and_one_refused_costs_no_other(judged):
    pictures("theirs", 0, 0, 255, 0)
    prompts = ("two bears", "one bus", "two bears", "two cats")
    captions = {f"{index}.png": prompt for index, prompt in enumerate(prompts)}
    Path("theirs/captions.json").write_text(json.dumps(captions))
    code, rows, told = judged("theirs", "--metrics", "picky")
    assert code == 0 and rows[2] == ["theirs", "1.5"]
    assert told[0] == "score-distill: theirs, 'one bus', picky: 'one bus' lacks 'two'. Use it."
    entry = json.loads(Path("theirs/metrics.json").read_text())["metrics"]["picky"]
    assert entry["prompts"] == ["two bears", "two cats"]
    assert entry["each"] == [{"mean": 2.0}, {"mean": 1.0}]


def test_of_several_prompts_each_has_its_recipe_where_they_differ(judged):
    pictures("theirs", 0, 0, 255, 0)
    captions = {f"{index}.png": "two buses" if index else "a bear" for index in range(4)}
    Path("theirs/captions.json").write_text(json.dumps(captions))
    assert judged("theirs", "--metrics", "even")[0] == 0
    entry = json.loads(Path("theirs/metrics.json").read_text())["metrics"]["even"]
    assert entry["prompts"] == ["a bear", "two buses"] and "recipe" not in entry
    assert entry["recipes"] == [{"pictures": 1}, {"pictures": 3}]
    assert judged("theirs", "--metrics", "even", "--prompt", "a bear")[0] == 0
    entry = json.loads(Path("theirs/metrics.json").read_text())["metrics"]["even"]
    assert entry["recipe"] == {"pictures": 4} and "recipes" not in entry


def test_an_option_that_changes_nothing_is_refused(judged):
    pictures("theirs", 0)
    for told in (["--views", "3"], ["--elevation=1,2"], ["--stage", "0"]):
        code, _, (line,) = judged("theirs", "--prompt", "two", "--metrics", "picky", *told)
        option = told[0].partition("=")[0]
        assert code == 2 and f"{option} is of runs, and here are only pictures. " in line
    run("a")
    for told in (["--prompt", "two"], ["--bad-pictures", "skip"]):
        code, _, (line,) = judged("a", "--metrics", "picky", *told)
        assert code == 2 and f"{told[0]} is of pictures, and here are only runs. Leave it" in line
    asked = ("a", "theirs", "--prompt", "two", "--views", "3", "--metrics", "picky")
    assert judged(*asked)[0] == 0


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
    run("study/ours/bear/a"), run("study/ours/bus/b")
    pictures("study/theirs/a", 0, prompt="two"), pictures("study/theirs/b", 255, prompt="two")
    code, rows, _ = judged("study/ours", "study/theirs", "--metrics", "picky")
    assert code == 0
    assert [row[0] for row in rows[2:]] == [
        *("study/ours/bear/a", "study/ours/bus/b", "study/theirs/a", "study/theirs/b"),
        *("ours, mean ± std, n = 2", "theirs, mean ± std, n = 2"),
    ]


def test_runs_of_two_methods_in_one_folder_are_told_apart(judged):
    run("study/a"), run("study/b"), run("study/c", guidance="vsd")
    _, rows, _ = judged("study", "--metrics", "picky")
    assert [row[0] for row in rows[5:]] == ["study: sds, mean ± std, n = 2"]


def test_runs_of_other_settings_are_other_methods_and_seeds_and_prompts_are_not(judged):
    run("a"), run("b", prompt="two bears"), run("c", guidance={"name": "sds", "scale": 2.0})
    _, rows, _ = judged("a", "b", "c", "--metrics", "picky")
    assert [row[0] for row in rows[5:]] == ["sds, scale=100.0, mean ± std, n = 2"]
    _, rows, _ = judged("a", "b", "--metrics", "picky")
    assert [row[0] for row in rows[4:]] == ["sds, mean ± std, n = 2"]


def test_folders_of_one_name_are_two_methods(judged):
    for method in ("sds", "vsd"):
        for seed in "ab":
            run(f"{method}/runs/{seed}")
    _, rows, _ = judged("sds/runs", "vsd/runs", "--metrics", "spread")
    assert [row[0] for row in rows[-2:]] == ["sds/runs, all", "vsd/runs, all"]


def test_a_refused_object_does_not_count_for_its_method_nor_for_the_next(judged):
    for folder in ("ours", "theirs"):
        for index, grey in enumerate((0, 255)):
            pictures(f"{folder}/{index}", grey, prompt="two")
    pictures("ours/2", 51, prompt="three"), pictures("first/0", 51, prompt="three")
    code, rows, told = judged("first", "ours", "theirs", "--metrics", "spread")
    assert code == 0 and sum("'three' is one too many" in line for line in told) == 2
    assert [row[1] for row in rows[-2:]] == ["1", "1"]
    entry = json.loads(Path("ours/0/metrics.json").read_text())["metrics"]["spread"]
    assert entry["method"] == "ours" and len(entry["subjects"]) == 2
    assert not Path("ours/2/metrics.json").exists()


def test_pictures_beside_folders_of_pictures_are_refused(judged):
    pictures("mine/a", 0, prompt="two"), pictures("mine/b", 0, prompt="two")
    Image.new("RGB", (4, 4)).save("mine/plot.png")
    code, _, told = judged("mine", "--prompt", "two", "--metrics", "picky")
    assert code == 2 and "mine holds pictures, and in a more of them" in told[0]


def test_a_list_of_pictures_in_folders_within_is_one_subject(judged):
    pictures("ref/pictures/a_bear", 0, 255)
    pictures("ref/pictures/a_bus", 0)
    captions = {f"pictures/a_bear/{index}.png": "two bears" for index in range(2)}
    captions["pictures/a_bus/0.png"] = "two buses"
    Path("ref/captions.json").write_text(json.dumps(captions))
    code, rows, _ = judged("ref", "--metrics", "picky")
    assert code == 0 and len(rows) == 3 and rows[-1][0] == "ref"
    told = json.loads(Path("ref/metrics.json").read_text())
    assert told["views"]["pictures"] == {"two bears": 2, "two buses": 1}
    assert told["metrics"]["picky"]["each"] == [{"mean": 2.0}, {"mean": 1.0}]


def test_a_report_among_the_folders_is_no_method(judged):
    pictures("mine/a", 0, prompt="two"), pictures("mine/b", 0, prompt="two")
    for _ in range(2):
        code, rows, _ = judged("mine", "--metrics", "picky", "--report", "mine/report")
        assert code == 0 and [row[0] for row in rows[2:4]] == ["a", "b"]


def test_other_pictures_of_the_same_names_are_another_scene(judged):
    run("a")
    pictures("theirs", 0, 255)
    judged("theirs", "--prompt", "two", "--metrics", "picky")
    Image.new("RGB", (4, 4), (9, 9, 9)).save("theirs/0.png")
    told = judged("theirs", "--prompt", "two", "--metrics", "even")[2]
    assert told == ["wrote theirs/metrics.json, without picky: of other views or another scene"]


def test_a_record_that_cannot_be_written_does_not_cost_the_table(judged, monkeypatch):
    run("a"), run("b")
    write = evaluation_record.write_text

    def failing(path, text):
        if path.parent.name == "a":
            raise RunFolderError(f"could not write {path}")
        write(path, text)

    monkeypatch.setattr(evaluation_record, "write_text", failing)
    code, rows, told = judged("a", "b", "--metrics", "picky")
    assert code == 0 and [row[1] for row in rows[2:4]] == ["24", "24"]
    assert told[0].startswith("score-distill: not recorded: could not write a")


def test_models_of_two_priors_do_not_stand_in_one_column(judged, monkeypatch):
    run("a")
    pictures("theirs", 0, prompt="two")
    monkeypatch.setattr(PriorEntry, "load_encoders", lambda self: Encoders(clip="another/clip"))
    code, _, told = judged("a", "theirs", "--metrics", "spread,picky")
    assert code == 2 and "would read these folders with different models" in told[0]
    same = ("--prior", "gaussian-mixture")
    assert judged("a", "theirs", "--metrics", "spread,picky", *same)[0] == 0


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


def test_pictures_in_a_folder_called_as_a_method_are_no_runs_of_it(judged):
    run("mine"), pictures("theirs/sds", 0, prompt="two")
    _, rows, _ = judged("mine", "theirs/sds", "--metrics", "picky")
    assert [row[0] for row in rows[2:]] == ["mine", "sds"]  # and no mean of both
    pictures("others/sds/a", 0, prompt="two"), pictures("others/sds/b", 255, prompt="two")
    _, rows, _ = judged("mine", "others/sds", "--metrics", "spread,picky")
    assert rows[5:] == [["sds (folder), mean ± std, n = 2", "1", "1 ± 0"]]


def test_objects_of_two_priors_are_one_method_to_a_metric_that_reads_both_alike(
    judged, monkeypatch
):
    run("ours/a")
    pictures("ours/b", 0, prompt="two"), pictures("ours/c", 255, prompt="two")
    monkeypatch.setattr(PriorEntry, "load_encoders", lambda self: Encoders(classes=("another",)))
    _, rows, _ = judged("ours", "--metrics", "spread", "--report", "report")
    assert rows[-1] == ["ours, all", "1"]
    told = json.loads(Path("report/report.json").read_text())
    assert '"subjects": ["a", "b", "c"]' in json.dumps(told)


def test_a_metric_that_breaks_costs_nobody_else_a_number(judged):
    pictures("a", 0, prompt="two"), pictures("b", 255, prompt="two")
    code, rows, told = judged("a", "b", "--metrics", "rude,picky")
    assert code == 0 and rows[2:] == [["a", "1", "1"], ["b", "", "1"]]
    said = "score-distill: b, rude: metric 'rude' failed: RuntimeError: out of memory, or so "
    (line,) = [line for line in told if "rude" in line]
    assert line.startswith(said + "(together_metrics.py,")


def test_a_metric_that_writes_into_its_pictures_changes_no_other_number(judged):
    for name in ("theirs/a", "theirs/b"):
        pictures(name, 102 if name.endswith("a") else 51, prompt="two")
    run("ours/a"), run("ours/b")
    for folder in ("theirs", "ours"):
        before = judged(folder, "--metrics", "spread")[1][-1]
        assert judged(folder, "--metrics", "rude,spread")[1][-1][-1] == before[-1]


def test_numbers_of_other_counts_are_told_and_none_is_best(judged):
    pictures("ours/a", 0, 0, prompt="two"), pictures("theirs/a", 0, 0, 0, prompt="two")
    asked = ("ours", "theirs", "--metrics", "even,picky", "--report", "report")
    told = judged(*asked)[2]
    said = "even is of other numbers of pictures (2, 3), which changes it: none is best"
    assert said in told and "**1**" not in Path("report/table.md").read_text()
    Path("theirs/a/2.png").unlink()
    Path("theirs/a/captions.json").write_text(json.dumps({"0.png": "two", "1.png": "two"}))
    assert said not in judged(*asked)[2]
    assert "**1**" in Path("report/table.md").read_text()


def test_an_empty_folder_is_refused(judged):
    Path("empty/within").mkdir(parents=True)
    code, _, told = judged("empty", "--metrics", "picky")
    assert code == 2 and "there is neither a run nor a picture in it" in told[0]
