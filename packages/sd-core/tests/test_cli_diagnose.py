"""`diagnose`, as a user calls it."""

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from sd_core import diagnosis, residual
from sd_core.baselines.sds import SDS
from sd_core.baselines.vsd import VSD
from sd_core.cli import main
from sd_core.diagnosis import Bench
from sd_core.guidance import Guided
from sd_core.residual import Prediction
from small_runs import SmallRun, experiment_file, table

pytestmark = pytest.mark.usefixtures("here")
QUICK = ("--set", "run.threads=1", "--set", "steps=6", "--draws", "4", "--cameras", "3")
POINTS = ("--prior", "gaussian-mixture", "--prompt", "two gaussians", *QUICK)


@pytest.fixture
def diagnosed(capsys):
    """Gives the cells of the table, without its two heading lines, and the lines of stderr."""

    def call(*arguments):
        assert main(["diagnose", *map(str, arguments)]) == 0
        out, err = capsys.readouterr()
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines()]
        assert lines[0][:3] == ["method", "step", "t"]
        return lines[2:], err.splitlines()

    return call


def test_every_method_is_diagnosed_at_every_time_on_the_same_draws(diagnosed):
    rows, told = diagnosed(
        *POINTS, "--methods", "vsd, sds,mix", "--times", "500,100,500", "--with", "sds.scale=7.5"
    )
    assert [(row[0], row[2]) for row in rows] == [
        (name, t) for name in ("vsd", "sds", "mix") for t in ("100", "500")
    ]
    assert {row[1] for row in rows} == {"0"}
    # The exact estimator of one point at a camera knows the drawn noise, so all three are SDS.
    assert [row[1:] for row in rows[:2]] == [row[1:] for row in rows[2:4]]
    assert all(0 < float(row[8]) <= 1 for row in rows)
    assert told == [
        "as they begin, with nothing learned of this scene: vsd",
        "the same gradients at every draw: vsd, sds, mix",
    ]


def test_the_experiments_own_method_and_five_times_are_the_default(diagnosed):
    rows, told = diagnosed(*POINTS)
    assert [(row[0], row[2]) for row in rows] == [
        ("sds", t) for t in ("100", "250", "500", "750", "900")
    ]
    assert told == []
    assert diagnosed(*POINTS)[0] == rows
    assert diagnosed(*POINTS, "--seed", "1")[0] != rows


def test_options_of_the_experiment_count_for_its_own_method_alone(diagnosed):
    chosen = (*POINTS, "--times", "250", "--guidance", "vsd", "--set", "guidance.weight=uniform")
    ((own, other), _) = diagnosed(*chosen, "--methods", "vsd,sds")
    ((told, _), _) = diagnosed(*chosen, "--methods", "vsd,sds", "--with", "vsd.weight=alpha-sigma")
    assert float(own[3]) > float(other[3])  # w = 1 instead of σ²
    assert own[3] != told[3]


def test_the_files_hold_all_numbers_and_where_they_came_from(diagnosed):
    pytest.importorskip("matplotlib")
    rows, told = diagnosed(
        *POINTS, "--methods", "vsd,sds", "--times", "100,900", "--steps", "2,0", "--output", "a/b"
    )
    assert told[-1] == "wrote a/b/diagnose.json and diagnose.png"
    record = json.loads(Path("a/b/diagnose.json").read_text())
    assert [(row["step"], row["method"], row["t"]) for row in record["rows"]] == [
        (step, method, t) for step in (0, 2) for method in ("vsd", "sds") for t in (100, 900)
    ]
    for row, cells in zip(record["rows"], rows, strict=True):
        assert f"{row['spread']['variance']:.3g}" == cells[4]
        assert f"{row['correlation']:.3g}" == cells[8]
    assert record["made_by"]["versions"]["torch"] == torch.__version__
    assert [method["options"]["scale"] for method in record["methods"]] == [7.5, 100.0]
    assert (record["schema"], record["stage"], record["cameras"]) == (1, 0, 3)
    assert len(set(record["seeds"])) == 4
    assert record["experiment"]["seed"] == 0
    with Image.open("a/b/diagnose.png") as picture:
        assert picture.format == "PNG" and len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_what_is_not_finite_is_null(diagnosed):
    pytest.importorskip("matplotlib")
    # At the mode there is no gradient but noise, and two draws of seed 1 lie apart.
    at_mode = ("--set", "renderer.mean=[2,1]", "--set", "renderer.spread=1e-9", "--cameras", "1")
    two = ("--times", "100", "--draws", "2", "--seed", "1")
    (cells,), _ = diagnosed(*POINTS, *at_mode, *two, "--output", "here")
    (row,) = json.loads(Path("here/diagnose.json").read_text())["rows"]
    assert cells[5:7] == ["∞", "0 to ∞"]
    assert row["spread"]["relative_variance"] is None
    assert row["spread"]["interval"] == [0.0, None]


def test_steps_in_between_change_nothing_of_those_after(diagnosed, monkeypatch):
    look = Bench._look

    def disturbing(self, moment):
        with torch.no_grad():
            for parameter in moment.renderer.parameters():
                parameter.add_(1)  # as a scene is that learns from being looked at
        return look(self, moment)

    chosen = (*POINTS, "--guidance", "vsd", "--times", "250")
    monkeypatch.setattr(Bench, "_look", disturbing)
    rows, _ = diagnosed(*chosen, "--steps", "0,1,4")
    assert [row[1] for row in rows] == ["0", "1", "4"]
    assert rows[0][3] != rows[2][3]
    assert diagnosed(*chosen, "--steps", "4")[0] == rows[2:]


def test_before_the_first_step_nothing_is_learned_whatever_comes_later(diagnosed):
    chosen = (*POINTS, "--guidance", "vsd", "--times", "250")
    rows, told = diagnosed(*chosen, "--steps", "0,2")
    assert told == ["as they begin, with nothing learned of this scene: vsd"]
    assert diagnosed(*chosen, "--steps", "0") == (rows[:1], told)


def test_methods_with_the_same_gradients_are_named(diagnosed):
    other = ("--with", "vsd.weight=uniform")
    rows, told = diagnosed(*POINTS, "--times", "250", "--methods", "sds,mix,vsd", *other)
    assert rows[0][1:] == rows[1][1:] != rows[2][1:]
    assert told[-1] == "the same gradients at every draw: sds, mix"


def test_what_a_method_made_for_itself_at_one_time_it_finds_at_the_next(diagnosed, monkeypatch):
    made, build = [], diagnosis.build_guidance

    def building(*given, folder, **told):
        made.append(folder.is_dir())
        folder.mkdir(parents=True, exist_ok=True)
        return build(*given, folder=folder, **told)

    monkeypatch.setattr(diagnosis, "build_guidance", building)
    diagnosed(*POINTS, "--times", "250,500", "--methods", "sds,vsd")
    assert made == [False, True, False, True]


def test_a_run_is_diagnosed_as_it_was_saved(diagnosed):
    pytest.importorskip("matplotlib")
    told = table({"steps": 6, "guidance": "vsd"})
    SmallRun({**told, "prior": "gaussian-mixture"}, Path("a")).go(steps=4)
    chosen = ("--methods", "vsd,sds", "--times", "250", "--draws", "4", "--cameras", "3")
    rows, told = diagnosed("a", *chosen, "--output", "there")
    assert told == [  # none is as it begins
        "the same gradients at every draw: vsd, sds",
        "wrote there/diagnose.json and diagnose.png",
    ]
    record = json.loads(Path("there/diagnose.json").read_text())
    assert [row["learned"] for row in record["rows"]] == ["with this scene", "nothing to learn"]
    along, _ = diagnosed("a/config.json", *chosen, "--steps", "4")
    assert rows == along
    assert rows != diagnosed("a/config.json", *chosen)[0]


def test_the_stages_own_method_is_as_it_learned(diagnosed, monkeypatch):
    def camera_free(self, noised, cameras, *, step, generator):
        return Prediction(self.estimator.predict_noise(noised, self.plain(cameras), None))

    monkeypatch.setattr(VSD, "source", camera_free)  # which depends on the renders remembered
    chosen = (*POINTS, "--guidance", "vsd", "--times", "250", "--steps", "4")
    rows, told = diagnosed(*chosen)
    assert told == []
    monkeypatch.setattr(diagnosis, "load_state", lambda *_: None)
    assert diagnosed(*chosen)[0] != rows


@pytest.mark.parametrize(("sign", "correlation"), [(1, "1"), (-1, "-1")])
def test_correlation_leaves_the_means_out_and_alignment_does_not(
    diagnosed, monkeypatch, sign, correlation
):
    """Of ε + 9 and ±ε, which vary together or against each other, and point elsewhere."""

    def target(self, noised, cameras, *, step, generator):
        return Prediction(noised.noise + 9)

    def source(self, noised, cameras, *, step, generator):
        return Prediction(sign * noised.noise)

    monkeypatch.setattr(SDS, "target", target)
    monkeypatch.setattr(SDS, "source", source)
    ((row,), _) = diagnosed(*POINTS, "--times", "250")
    assert float(row[8]) == pytest.approx(float(correlation), abs=1e-3)
    assert abs(float(row[9])) < 0.9


def test_a_method_that_is_no_residual_has_no_correlation(diagnosed, monkeypatch):
    def alone(self, *given, **told):
        guided = gradient(self, *given, **told)
        return Guided(guided.gradient, guided.t)

    gradient = SDS.gradient
    monkeypatch.setattr(SDS, "gradient", alone)
    ((row,), _) = diagnosed(*POINTS, "--times", "250")
    assert row[8:] == ["–", "–"] and float(row[4]) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--methods", "sds,vdd"),
            "no guidance named 'vdd'. Installed: mix, no-method, no-options, sds, sick, vsd. "
            "Did you mean 'vsd'?",
        ),
        (
            ("--methods", "sick"),
            "guidance 'sick' has no option 'timesteps', so that its t cannot be chosen. Leave it "
            "out of --methods.",
        ),
        (
            ("--draws", "1"),
            "draws is '1', but it should be greater than or equal to 2.",
        ),
        (
            ("--cameras", "0"),
            "cameras is '0', but it should be greater than or equal to 1.",
        ),
        (
            ("--times", "10,1000"),
            "times is [10, 1000], but the prior's noise schedule has t = 0 to 999. Give --times "
            "from that range.",
        ),
        (
            ("--times=-1,10",),
            "times.0 is '-1', but it should be greater than or equal to 0.",
        ),
        (
            ("--steps", "6"),
            "steps has 6, but the first stage has the steps 0 to 5. Give smaller --steps, or the "
            "stage more of them: --set stages.0.steps=N.",
        ),
        (
            ("--with", "sds.scael=1"),
            "unknown key 'scael' in sds. Known keys: scale, timesteps, weight. Did you mean "
            "'scale'?",
        ),
        (
            ("--with", "sds=1"),
            "--with sds=1 is not an assignment. Write --with METHOD.OPTION=VALUE; score-distill "
            "describe guidance METHOD lists the options.",
        ),
        (
            ("--with", "vsd.scale=1"),
            "--with vsd.scale=1: method 'vsd' is not asked for. Add it to --methods. Did you mean "
            "'sds'?",
        ),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(refused, arguments, message):
    assert refused("diagnose", *POINTS, *arguments) == message


def test_an_output_that_holds_something_is_left_alone(refused):
    pytest.importorskip("matplotlib")
    Path("taken").mkdir()
    Path("taken/mine").write_text("precious")
    assert refused("diagnose", *POINTS, "--output", "taken") == (
        "taken exists and is not an empty folder. Choose another with --output."
    )
    assert [path.name for path in Path("taken").iterdir()] == ["mine"]


def test_without_matplotlib_there_is_no_figure(refused, diagnosed, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert refused("diagnose", *POINTS, "--output", "there") == (
        "--output draws a figure, which needs matplotlib. Install it: pip install "
        '"sd-core[figures]", or leave --output out.'
    )
    assert not Path("there").exists()
    assert diagnosed(*POINTS, "--times", "250")[0]


@pytest.mark.parametrize("flag", ["--guidance=vsd", "--steps=0"])
def test_a_run_has_a_scene_of_its_own(refused, flag):
    SmallRun(table({"steps": 2}), Path("a")).go()
    name = flag.partition("=")[0]
    assert refused("diagnose", "a", flag) == (
        f"{name} does not go with the run a, whose scene is there already. Leave it out; "
        "--methods names what judges the scene."
    )


def test_a_folder_that_is_no_run_is_refused(refused):
    Path("empty").mkdir()
    assert refused("diagnose", "empty") == "empty is not a run folder: it has no config.json."


def test_a_method_that_chooses_its_own_time_is_refused(refused, monkeypatch):
    monkeypatch.setattr(
        residual, "sample_timesteps", lambda options, count, **_: torch.arange(count)
    )
    assert refused("diagnose", *POINTS, "--times", "250") == (
        "guidance 'sds' was told t = 250, but judged at t = [0, 1, 2]: at step 0 of 6 it chooses "
        "for itself. Leave it out of --methods."
    )


def test_a_gradient_that_is_not_finite_is_refused(refused, monkeypatch):
    monkeypatch.setattr(residual, "residual_gradient", lambda a, b, w: a * float("nan"))
    file = experiment_file('prompt = "two gaussians"\nprior = "gaussian-mixture"\n')
    assert refused("diagnose", file, "--times", "250", "--draws", "2") == (
        "guidance 'sds' gave a non-finite gradient at t = 250. Try a smaller guidance scale, "
        "another --times, or run the prior in float32."
    )
