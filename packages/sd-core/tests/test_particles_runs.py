"""Runs of particles: recorded, built, resumed; each is looked at and judged for itself."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fake_metrics
import fake_plugin
import photo_prior
from mini_schema import mistakes
from runner_world import assert_same_end
from sd_core import plugins as plugins_module
from sd_core import show
from sd_core.building import build_prior, build_scene
from sd_core.camera_sampling import CameraOptions
from sd_core.cli import main
from sd_core.commands.schema import experiment_schema
from sd_core.errors import ConfigError, PluginError
from sd_core.experiment import Experiment
from sd_core.plugins import load_plugins
from sd_core.renderer import AbstractRenderer, Rendering
from sd_core.renderers.affine import Affine
from sd_core.show import LEAST_PIXELS, Studio
from small_runs import SmallRun, newest_state, plugins, same, table

pytestmark = pytest.mark.usefixtures("here")
AFFINE = {"name": "particles", "scene": {"name": "affine", "mean": [1.0, -1.0]}, "count": 3}
SOLIDS = {"steps": 4, "renderer": {"name": "particles", "scene": "solid", "count": 3}}


class Grey(AbstractRenderer):
    """`count` scenes, the i-th i/10 bright; each shows `pictures`, or one for each camera."""

    forward = None

    def __init__(self, count, pictures=None):
        super().__init__()
        self.count, self.pictures = count, pictures
        self.value = torch.nn.Parameter(torch.zeros(1))

    @property
    def single_scenes(self):
        return [self] * self.count

    def preview(self, cameras):
        each = self.pictures or len(cameras)
        grey = torch.arange(self.count).repeat_interleave(each).view(-1, 1, 1, 1) / 10
        images = grey.expand(-1, 3, 128, 128)
        return Rendering(images, torch.ones_like(images[:, :1]), 1 + images[:, :1], images)


def studio(*told) -> Studio:
    return Studio(Grey(*told), CameraOptions(), lambda latents: latents)


def tiles_of(path) -> list[list[int]]:
    """The level of each tile of a sheet, in tenths; 10 is blank."""
    with Image.open(path) as sheet:
        return middles(np.asarray(sheet)[..., 0])


def middles(levels) -> list[list[int]]:
    half = LEAST_PIXELS // 2
    return (levels[half::LEAST_PIXELS, half::LEAST_PIXELS] / 25.5).round().astype(int).tolist()


@pytest.mark.parametrize("name", ["contact_sheet", "preview"])
@pytest.mark.parametrize(
    ("told", "rows"),
    [
        ((3,), [[0] * 4, [1] * 4, [2] * 4]),  # four views of each
        ((6, 1), [[0, 1, 2, 3], [4, 5, 10, 10]]),  # one picture of each
        ((2, 1), [[0, 1]]),
        ((2, 5), [[0] * 5, [1] * 5]),
        ((1, 6), [[0] * 4, [0, 0, 10, 10]]),  # one scene, as ever
    ],
    ids=str,
)
def test_each_scene_has_a_row_of_a_sheet(tmp_path, name, told, rows):
    getattr(studio(*told), name)(tmp_path / "sheet.png")
    assert tiles_of(tmp_path / "sheet.png") == rows


def test_one_scene_still_has_twelve_views(tmp_path):
    studio(1).contact_sheet(tmp_path / "sheet.png")
    assert tiles_of(tmp_path / "sheet.png") == [[0] * 4] * 3


def test_scenes_turn_side_by_side(tmp_path, monkeypatch):
    videos = {}
    monkeypatch.setattr(show, "save_video", lambda path, frames: videos.update({path.name: frames}))
    studio(6).videos(tmp_path, 3)
    assert list(videos) == ["turntable.mp4", "depth.mp4", "normals.mp4"]
    assert all(frames.shape == (3, 3, 256, 512) for frames in videos.values())
    for frame in videos["turntable.mp4"]:
        assert middles(frame[0].numpy() * 255) == [[0, 1, 2, 3], [4, 5, 10, 10]]


def test_scenes_of_a_picture_each_have_no_turntable(tmp_path, monkeypatch):
    videos = []
    monkeypatch.setattr(show, "save_video", lambda path, frames: videos.append(path.name))
    studio(6, 1).videos(tmp_path, 3)
    assert videos == []


def test_a_run_of_particles_ends_with_all_its_pictures(monkeypatch):
    videos = []
    monkeypatch.setattr(show, "save_video", lambda path, frames: videos.append(tuple(frames.shape)))
    SmallRun(table(SOLIDS, turntable_frames=2), Path("a")).go()
    with Image.open("a/final/contact_sheet.png") as sheet:
        assert sheet.size == (4 * 128, 3 * 128)
    assert videos == [(2, 3, 8, 3 * 8)] * 3


def test_each_is_exported_as_the_scene_within_can_be(cli, refused):
    run = SmallRun(table(SOLIDS, turntable_frames=0), Path("a")).go()
    out = cli("export", "a", "--to", "txt", "--set", "times=2").splitlines()
    assert out[:2] == ["the scene after 4 steps of stage 0", "particle 0: two files"]
    state = newest_state(run.folder)["scene"]
    for index in range(3):
        assert Path(f"a/final/scene-{index}.txt").read_text() == "point point"
        values = state[f"scenes.{index}.point"].flatten().tolist()
        assert Path(f"a/final/scene-{index}.values").read_text() == str(values)
    complaint = refused("export", "a", "--to", "glb")
    assert "renderer 'solid' cannot be written as 'glb'. It can be: txt, list." in complaint


@pytest.fixture
def judged(capsys, monkeypatch):
    """Gives exit code, stdout and stderr of `evaluate`."""
    load = partial(load_plugins, installed=False, extra=[fake_plugin, fake_metrics])
    monkeypatch.setattr(plugins_module, "load_plugins", load)

    def call(*arguments):
        code = main(["evaluate", *arguments])
        return code, *capsys.readouterr()

    return call


def test_each_is_judged_and_the_mean_is_reported(judged, monkeypatch):
    seen = fake_plugin.Solid.preview

    def brighter(self, cameras):
        """By what distinguishes this scene from the others: where its point is."""
        plain = seen(self, cameras)
        return Rendering(0.5 * plain.images + self.point.flatten()[0].detach().sigmoid() / 2)

    monkeypatch.setattr(fake_plugin.Solid, "preview", brighter)
    run = SmallRun(table(SOLIDS, turntable_frames=0), Path("a")).go()
    code, out, _ = judged("a", "--metrics", "glow")
    assert code == 0
    state = newest_state(run.folder)["scene"]
    points = [state[f"scenes.{i}.point"].flatten()[0] for i in range(3)]
    expected = [0.25 + float(point.sigmoid()) / 2 for point in points]
    glow = json.loads(Path("a/metrics.json").read_text())["metrics"]["glow"]
    assert len(set(expected)) > 1
    assert [each["mean"] for each in glow["each"]] == pytest.approx(expected)
    assert glow["values"]["mean"] == pytest.approx(sum(expected) / 3)
    assert f"{glow['values']['mean']:.4g}" in out


def test_flat_particles_are_pictures_without_cameras_like_one_flat_scene(judged):
    flat = {"steps": 1, "renderer": {"name": "particles", "scene": "affine", "count": 24}}
    SmallRun(table(flat, turntable_frames=0), Path("a")).go()
    code, _, told = judged("a", "--metrics", "glow")
    assert code == 2 and "metric 'glow' must know from where each view was taken" in told


def test_the_schema_takes_a_scene_as_a_table_or_by_its_name():
    schema = experiment_schema(load_plugins(installed=False))
    told = {"name": "particles", "scene": "affine"}
    resolved = Experiment(table({"renderer": told}), plugins()).resolved()
    for good in (resolved, {"prompt": "x", "stages": [{"renderer": told}]}):
        assert mistakes(good, schema, schema) == []
    wrong = {"prompt": "x", "stages": [{"renderer": {**told, "scene": 5}}]}
    assert mistakes(wrong, schema, schema)


def test_on_the_command_line_a_scene_may_be_told_by_its_name_and_then_more(cli):
    told = ["renderer=particles", "renderer.scene=affine", "renderer.scene.spread=2", "steps=1"]
    sets = [word for each in [*told, "run.threads=1"] for word in ("--set", each)]
    cli("run", "--prompt", "two gaussians", "--prior", "gaussian-mixture", *sets, "--output", "a")
    (stage,) = json.loads(Path("a/config.json").read_text())["experiment"]["stages"]
    assert stage["renderer"]["scene"]["spread"] == 2.0 and stage["cameras"]["batch"] == 64
    made = json.loads(Path("a/made_by.json").read_text())["plugins"]
    assert list(made)[-2:] == ["renderer particles", "renderer affine"]


def experiment(*stages, prior=None) -> Experiment:
    if prior is None:
        return Experiment(table(*stages), plugins())
    known = load_plugins(installed=False, extra=[fake_plugin, photo_prior])
    return Experiment({"prompt": "x", "prior": prior, "stages": list(stages)}, known)


# in an experiment


def test_cameras_and_what_suits_the_prior_are_those_of_the_scene_within():
    (alone,) = experiment({}, prior="photos").stages
    (several,) = experiment({"renderer": "particles"}, prior="photos").stages
    scene = several.renderer.innermost()
    assert (scene.entry.name, scene.options) == ("film", alone.renderer.options)
    assert (several.cameras, several.options.steps) == (alone.cameras, 12)
    assert several.options.optimiser == alone.options.optimiser
    told = {"name": "particles", "scene": "tiles"}
    (other,) = experiment({"renderer": told}, prior="photos").stages
    assert (other.cameras.batch, other.options.steps) == (7, 1000)


def test_a_stage_that_goes_on_takes_what_suits_the_scene_within():
    _, second = experiment({"renderer": "particles"}, {}, prior="photos").stages
    assert second.renderer is None and second.options.steps == 12


def test_what_is_recorded_runs_again_alike():
    chosen = experiment({"renderer": "particles"}, {"renderer": {"count": 2}}, prior="photos")
    resolved = chosen.resolved()
    written = [stage["renderer"] for stage in resolved["stages"]]
    assert written[0] == {
        "name": "particles",
        "scene": {"name": "film", "side": 5},
        "count": 4,
        "at_once": 1,
    }
    assert written[1] == {**written[0], "count": 2}
    assert same(Experiment(resolved, chosen.plugins).resolved(), resolved)
    names = [choice.entry.name for choice in chosen.choices()]
    assert names == ["photos", "sds", "particles", "film", "sds", "particles", "film"]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"at_once": 5}, "stages.0.renderer: at_once is 5, but there are 4 particles. Set at_"),
        ({"scene": {"name": 5}}, "stages.0.renderer.scene: the name is 5. Write the name of a "),
        ({"scene": "afine"}, "no renderer named 'afine'. Installed: affine, particles, solid, "),
        (
            {"scene": {"name": "affine", "spred": 1}},
            "unknown key 'spred' in stages.0.renderer.scene. Known keys: mean, spread, view_",
        ),
        ({"scene": {"mean": 1}}, "stages.0.renderer.scene.mean is 1, but it should be a list."),
        (
            {"scene": {"name": "particles", "scene": {"mean": 1}}},
            "stages.0.renderer.scene.scene.mean is 1, but it should be a list.",
        ),
    ],
    ids=str,
)
def test_a_mistake_within_is_told_like_any_other(told, message):
    with pytest.raises((ConfigError, PluginError)) as caught:
        experiment({"renderer": {"name": "particles", **told}})
    assert str(caught.value).startswith(message)


def test_a_renderer_may_only_find_what_its_options_declare(monkeypatch):
    monkeypatch.setattr(Affine, "__init__", lambda self, config, c: c.find("solid", {}, None))
    chosen = experiment({})
    with pytest.raises(PluginError) as caught:
        build_scene(chosen, 0, build_prior(chosen), None)
    assert str(caught.value) == (
        "renderer 'affine' asks for 'solid' with options {}, which made_of() of "
        "sd_core.renderers.affine:AffineOptions does not declare. Tell its author."
    )


def test_each_is_built_from_the_particle_of_its_number(monkeypatch):
    chosen = experiment({"renderer": AFFINE}, {"renderer": {**AFFINE, "scene": "affine"}})
    before = build_scene(chosen, 0, build_prior(chosen), None).renderer
    build, told = Affine.__init__, []

    def watched(self, config, context):
        build(self, config, context)
        told.append(context.previous)

    monkeypatch.setattr(Affine, "__init__", watched)
    build_scene(chosen, 1, build_prior(chosen), before)
    assert len(told) == 3 and all(
        one is other for one, other in zip(told, before.scenes, strict=True)
    )


@pytest.mark.parametrize("steps", [1, 5, 6, 9, 12])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, steps):
    first = {"renderer": {**AFFINE, "at_once": 2}, "steps": 6, "guidance": "vsd"}
    second = {"renderer": {**AFFINE, "count": 3}, "steps": 6, "guidance": "vsd"}
    whole = SmallRun(table(first, second), tmp_path / "whole").go()
    run = SmallRun(table(first, second), tmp_path / "run").go(steps=steps)
    assert_same_end(run.resume(), whole)
    offsets = [newest_state(run.folder)["scene"][f"scenes.{i}.offset"] for i in range(3)]
    assert len({tuple(each.tolist()) for each in offsets}) == 3
