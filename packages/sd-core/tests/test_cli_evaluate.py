"""`evaluate`, as a user calls it."""

import json
import platform
from functools import partial
from pathlib import Path

import pytest
import torch

import fake_metrics
import fake_plugin
import sick_metrics
from sd_core import plugins as plugins_module
from sd_core import subjects
from sd_core.cli import main
from sd_core.plugins import load_plugins
from sd_core.renderer import AbstractRenderer
from small_runs import SmallRun, table

SOLID = {"steps": 2, "renderer": "solid"}
MADE_FOR = {"prompt": "two gaussians", "seed": 0}


@pytest.fixture(autouse=True)
def with_metrics(here, monkeypatch):
    use(monkeypatch, fake_metrics)


def use(monkeypatch, *metrics):
    load = partial(load_plugins, installed=False, extra=[fake_plugin, *metrics])
    monkeypatch.setattr(plugins_module, "load_plugins", load)


@pytest.fixture
def judged(capsys):
    """Gives exit code, stdout and the lines of stderr."""

    def call(*arguments):
        code = main(["evaluate", *arguments])
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return call


def run(name="a", *stages, steps=None, **told):
    options = {**table(*(stages or (SOLID,)), turntable_frames=0), **told}
    return SmallRun(options, Path(name)).go(steps=steps)


def record(name="a"):
    return json.loads(Path(name, "metrics.json").read_text())


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]


def test_a_run_is_judged_by_every_metric_that_is_installed(judged):
    run()
    code, out, told = judged("a")
    assert (code, told) == (0, ["wrote a/metrics.json"])
    # The scene is 0.5 + 0.4·sin(azimuth) bright.
    assert out == (
        "| run | glow mean ↑ | top ↑ | picky mean |\n"
        "| --- | ----------: | ----: | ---------: |\n"
        "| a   |         0.5 |    90 |         24 |\n"
    )


def test_metrics_json_says_what_was_measured_and_how(judged):
    run()
    judged("a", "--views", "8", "--elevation", "10,-5", "--set", "glow.gain=2")
    told = record()
    assert list(told) == ["schema", "views", "scene", "metrics"] and told["schema"] == 1
    assert told["views"] == {
        "count": 8,
        "elevations_deg": [10.0, -5.0],
        "distance": 1.25,
        "vertical_fov_deg": 55.0,
        "size": [8, 8],
        "background": None,
    }
    assert told["scene"] == {"stage": 0, "steps_done": 2, **MADE_FOR}
    glow = told["metrics"]["glow"]
    assert glow["options"] == {"gain": 2.0} and glow["higher_is_better"] is True
    assert glow["values"] == {"mean": pytest.approx(1.0), "top": 90.0}
    made_by = glow["made_by"]
    assert set(made_by) == {"date", "plugin", "versions", "device"}
    assert made_by["plugin"] == "fake_metrics"
    assert made_by["versions"]["torch"] == torch.__version__
    assert made_by["versions"]["python"] == platform.python_version()
    assert torch.cuda.is_available() or made_by["device"] == "cpu"
    assert told["metrics"]["picky"]["higher_is_better"] is None


def test_views_come_from_the_middle_of_the_runs_own_cameras(judged):
    run("a", {**SOLID, "cameras": {"batch": 4, "distance": [2, 4], "vertical_fov_deg": [20, 30]}})
    judged("a")
    assert record()["views"]["distance"] == 3.0
    assert record()["views"]["vertical_fov_deg"] == 25.0


def test_runs_of_one_method_end_with_a_mean(judged):
    run("x/a"), run("b", prompt="one gaussian"), run("c", {**SOLID, "guidance": "vsd"})
    code, out, told = judged("x/a", "b", "c", "--metrics", "picky,glow")
    assert code == 0
    assert told == [
        "wrote x/a/metrics.json",
        "score-distill: b, picky: 'one gaussian' lacks 'two'. Use it.",
        "wrote b/metrics.json",
        "wrote c/metrics.json",
    ]
    assert cells(out)[2:] == [
        ["a", "24", "0.5", "90"],
        ["b", "", "0.5", "90"],
        ["c", "24", "0.5", "90"],
        ["sds, mean ± std, n = 2", "24 (n = 1)", "0.5 ± 0", "90 ± 0"],
    ]
    assert list(record("b")["metrics"]) == ["glow"]


def test_runs_of_several_stages_are_of_one_method_if_all_their_methods_agree(judged):
    stages = (SOLID, {"steps": 2, "guidance": "vsd"})
    run("a", *stages), run("b", *stages), run("c")
    out = judged("a", "b", "c", "--metrics", "picky")[1]
    assert [row[0] for row in cells(out)[5:]] == ["sds+vsd, mean ± std, n = 2"]


def test_folders_of_one_name_are_told_apart_and_each_is_judged_once(judged, monkeypatch):
    run("x/a"), run("y/a")
    out = judged("x/a", "y/a", "x/../x/a", "--metrics", "picky")[1]
    assert [row[0] for row in cells(out)[2:4]] == ["x/a", "y/a"] and len(cells(out)) == 5
    monkeypatch.chdir("x/a")
    assert cells(judged(".", "--metrics", "picky")[1])[2][0] == "a"


def test_metrics_that_are_not_asked_for_again_stay(judged):
    run()
    judged("a")
    before = record()
    code, _, told = judged("a", "--metrics", "glow", "--set", "glow.gain=3")
    assert (code, told) == (0, ["wrote a/metrics.json"])
    assert record()["metrics"]["picky"] == before["metrics"]["picky"]
    assert record()["metrics"]["glow"]["options"] == {"gain": 3.0}


def test_metrics_of_other_views_are_dropped_and_named(judged):
    run()
    judged("a")
    _, _, told = judged("a", "--metrics", "glow", "--views", "12")
    assert told == ["wrote a/metrics.json, without picky: of other views or another scene"]
    assert list(record()["metrics"]) == ["glow"]


def test_a_metric_that_fails_leaves_what_was_measured_before(judged):
    run()
    judged("a")
    before = record()
    for views in ("24", "12"):
        failing = ("--metrics", "picky", "--set", "picky.word=x", "--views", views)
        assert judged("a", *failing)[0] == 2
        assert record() == before


def test_an_unfinished_run_is_judged_as_it_is(judged):
    run("a", {**SOLID, "steps": 9}, steps=3)
    code, out, told = judged("a", "--metrics", "glow")
    assert code == 0 and cells(out)[2] == ["a", "0.5", "90"]
    assert told == [
        "a is not finished: its scene after 3 steps of stage 0 is judged",
        "wrote a/metrics.json",
    ]
    assert record()["scene"] == {"stage": 0, "steps_done": 3, **MADE_FOR}


def test_a_stage_can_be_asked_for(judged):
    run("a", SOLID, {"steps": 3})
    assert judged("a", "--stage", "0")[2] == ["wrote a/metrics.json"]
    assert record()["scene"] == {"stage": 0, "steps_done": 2, **MADE_FOR}
    judged("a")
    assert record()["scene"] == {"stage": 1, "steps_done": 3, **MADE_FOR}


def test_the_prior_is_built_only_to_decode(judged, monkeypatch):
    built = []

    class Decoder:
        def decode(self, latents):
            return 0.25 * torch.ones(len(latents), 3, 4, 4)

    def build(experiment):
        built.append(experiment.options.run.device)
        return Decoder()

    run("a", run={"device": "auto", "turntable_frames": 0})
    monkeypatch.setattr(subjects, "build_prior", build)
    judged("a", "--device", "cpu")
    assert built == []
    monkeypatch.setattr(fake_plugin.Solid, "preview", AbstractRenderer.preview)
    out = judged("a", "--metrics", "glow", "--device", "cpu")[1]
    assert built == ["cpu"]  # once, and where --device says
    assert cells(out)[2] == ["a", "0.25", "0"]


def test_a_run_that_cannot_be_judged_does_not_stop_the_others(judged):
    SmallRun(table(SOLID), Path("none"))
    run("flat", {"steps": 2}), run()
    code, out, told = judged("none", "flat", "a", "--metrics", "glow")
    assert code == 0
    assert told[0].startswith("score-distill: none: none holds no scene yet. Go on with: ")
    assert told[1] == "wrote a/metrics.json"
    assert told[2].startswith("score-distill: flat, glow: metric 'glow' must know from where ")
    assert len(told) == 3
    assert cells(out)[2:] == [
        ["none", "", ""],
        ["flat", "", ""],
        ["a", "0.5", "90"],
    ]
    assert not Path("flat/metrics.json").exists()


def test_without_any_number_the_exit_code_is_2(judged):
    run()
    assert judged("a", "--stage", "5") == (
        2,
        "",
        ["score-distill: a: a has no stage 5, its stages are 0 to 0."],
    )


def test_a_number_that_is_not_finite_is_never_written(judged, monkeypatch):
    use(monkeypatch, fake_metrics, sick_metrics)
    run()
    code, _, told = judged("a", "--metrics", "undefined,picky")
    assert code == 0
    assert told[0].startswith("score-distill: a, undefined: metric 'undefined' gave nan for 'rat")
    assert list(record()["metrics"]) == ["picky"]
    assert judged("a", "--metrics", "undefined")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a", "nowhere"], "nowhere is not a run folder: it has no config.json."),
        (["a", "--metrics", "glo"], "no metric named 'glo'. Installed: glow, picky. Did you mean "),
        (["a", "--metrics", ""], "no metric named ''. Installed: glow, picky."),
        (["a", "--set", "glow.gian=2"], "unknown key 'gian' in glow. Known keys: gain. Did you "),
        (["a", "--set", "glow.gain=0"], "glow.gain is 0, but it should be greater than 0."),
        (["a", "--set", "glo.gain=2"], "no metric named 'glo'. Installed: glow, picky. Did you "),
        (
            ["a", "--metrics", "picky", "--set", "glow.gain=2"],
            "--set glow.gain=2: metric 'glow' is not asked for. Add it to --metrics.",
        ),
        *(
            (["a", "--set", told], f"--set {told} is not an assignment. Write --set METRIC.OPTION")
            for told in ("glow", "glow.gain", "glow=2", ".gain=2", "glow.=2")
        ),
        (["a", "--views", "0"], "views is '0', but it should be greater than or equal to 1."),
        (["a", "--views", "x"], "views is 'x', but it should be a valid integer, unable to "),
        (["a", "--elevation", "95"], "elevation.0 is '95', but it should be less than or equal "),
        (["a", "--elevation", "5,x"], "elevation.1 is 'x', but it should be a valid number, "),
        (["a", "--device", "tpu"], "--device is 'tpu', but it cannot be used ("),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_before_anything_is_computed(refused, arguments, complaint):
    run()
    assert refused("evaluate", *arguments).startswith(complaint)
    assert not Path("a/metrics.json").exists()


def test_a_damaged_record_is_one_line_before_anything_is_computed(refused):
    run("a"), run("b")
    Path("b/metrics.json").write_text("{")
    assert refused("evaluate", "a", "b").startswith("b/metrics.json cannot be read (")
    assert Path("b/metrics.json").read_text() == "{" and not Path("a/metrics.json").exists()


def test_without_metrics_nothing_can_be_evaluated(refused, monkeypatch):
    run()
    use(monkeypatch)
    assert refused("evaluate", "a").startswith("no metric is installed. Metrics come from plugins")
    assert refused("evaluate", "a", "--metrics", "glow") == (
        "no metric named 'glow'. Installed: none."
    )
