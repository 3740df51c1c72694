"""`export`, as a user calls it, and the scenes that it brings back."""

import shutil
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from sd_core import saved_scene
from sd_core.building import choose_device
from sd_core.camera_sampling import CameraOptions
from sd_core.checkpoint import drop_later, list_checkpoints
from sd_core.errors import CheckpointError
from sd_core.renderer import AbstractRenderer, Rendering
from sd_core.saved_scene import load_scene
from sd_core.show import Studio
from small_runs import SmallRun, newest_state, table

pytestmark = pytest.mark.usefixtures("here")
CPU = choose_device("cpu")
SOLID = {"steps": 4, "renderer": "solid"}


def solid_run(*stages, steps=None):
    return SmallRun(table(*(stages or (SOLID,)), turntable_frames=4), Path("a")).go(steps=steps)


def loaded(run, stage=None):
    return load_scene(run.folder, run.experiment, device=CPU, stage=stage)


def test_a_scene_is_written_by_itself_and_says_how(cli):
    run = solid_run()
    out = cli("export", "a", "--to", "txt", "--set", "times=3")
    assert out.splitlines() == [
        "the scene after 4 steps of stage 0",
        "two files",
        "wrote a/final/scene.txt",
        "wrote a/final/scene.values",
    ]
    assert Path("a/final/scene.txt").read_text() == "point point point"
    values = newest_state(run.folder)["scene"]["point"].flatten().tolist()
    assert Path("a/final/scene.values").read_text() == str(values)


def test_a_scene_goes_where_the_user_says(cli):
    solid_run()
    Path("elsewhere").mkdir()
    cli("export", "a", "--to", "list", "--output", "elsewhere/my.list")
    assert sorted(path.name for path in Path("elsewhere").iterdir()) == ["my.list", "my.values"]


def test_no_file_is_overwritten_unless_the_user_says_so(cli, refused):
    solid_run()
    Path("a/final/scene.values").write_text("mine")
    complaint = refused("export", "a", "--to", "txt")
    assert "a/final/scene.values exists already" in complaint and "--overwrite" in complaint
    assert not Path("a/final/scene.txt").exists()
    cli("export", "a", "--to", "txt", "--overwrite")
    assert Path("a/final/scene.values").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["a", "--to", "glb"],
            "renderer 'solid' cannot be written as 'glb'. It can be: txt, list.",
        ),
        (["a", "--to", "txt", "--set", "tims=2"], "unknown key 'tims'"),
        (["a", "--to", "txt", "--set", "times"], "--set times is not an assignment"),
        (["a", "--to", "txt", "--set", "times=0"], "greater than or equal to 1"),
        (["a", "--to", "txt", "--output", "b.list"], "--to txt writes a .txt, but --output is"),
        (["a", "--to", "txt", "--stage", "1"], "a has no stage 1, its stages are 0 to 0."),
        (["a", "--to", "txt", "--stage", "-1"], "a has no stage -1, its stages are 0 to 0."),
        (["a", "--to", "txt", "--device", "tpu"], "--device is 'tpu', but it cannot be used"),
        (["nowhere", "--to", "txt"], "nowhere is not a run folder"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(refused, arguments, complaint):
    solid_run()
    assert complaint in refused("export", *arguments)
    assert not Path("a/final/scene.txt").exists()


def test_a_scene_that_has_no_files_says_so(refused):
    SmallRun(table({"steps": 2}), Path("a")).go()
    complaint = refused("export", "a", "--to", "glb")
    assert "renderer 'affine' cannot be written as 'glb'. It can be: none." in complaint


def test_the_scene_of_an_unfinished_run_is_that_of_its_newest_checkpoint():
    run = solid_run({**SOLID, "steps": 9}, steps=3)
    scene = loaded(run)
    assert (scene.stage, scene.steps_done) == (0, 3)
    assert torch.equal(scene.renderer.point, newest_state(run.folder)["scene"]["point"])
    with pytest.raises(CheckpointError, match="stage 0 of a is not finished"):
        loaded(run, stage=0)


def test_of_a_run_that_has_ended_only_the_scene_is_read():
    """Its checkpoint holds the same, and the optimiser's moments and the method's networks."""
    run = solid_run(SOLID, {"steps": 5})
    expected = newest_state(run.folder)["scene"]["point"]
    for path in list_checkpoints(run.folder.checkpoints):
        (path / "state.safetensors").unlink()
    scene = loaded(run)
    assert (scene.stage, scene.steps_done) == (1, 5)
    assert torch.equal(scene.renderer.point, expected)


def test_a_run_that_was_taken_back_is_as_its_checkpoint_says():
    run = SmallRun(table(SOLID, checkpoint_every=3), Path("a")).go()
    drop_later(run.folder.checkpoints, 0, 3)  # as `resume --previous` does
    assert loaded(run).steps_done == 3


def drop_while_loading(monkeypatch, times):
    """The run goes on while its scene is read, and drops what was its newest checkpoint."""
    real, dropped = saved_scene.load_checkpoint, []

    def load(path, **options):
        if len(dropped) < times:
            dropped.append(path)
            shutil.rmtree(path)
        return real(path, **options)

    monkeypatch.setattr(saved_scene, "load_checkpoint", load)


def test_a_checkpoint_that_a_running_run_drops_meanwhile_is_looked_for_again(monkeypatch):
    run = SmallRun(table({**SOLID, "steps": 9}, checkpoint_every=2), Path("a")).kill(steps=5)
    drop_while_loading(monkeypatch, 1)
    assert loaded(run).steps_done == 2


def test_a_checkpoint_is_looked_for_again_but_once(monkeypatch):
    run = SmallRun(table({**SOLID, "steps": 9}, checkpoint_every=2), Path("a")).kill(steps=5)
    drop_while_loading(monkeypatch, 2)
    with pytest.raises(CheckpointError, match="stage_0_step_000002 is damaged"):
        loaded(run)


def test_each_finished_stage_can_be_brought_back():
    run = solid_run(SOLID, {"steps": 5}, {"steps": 3, "renderer": "affine"})
    points = [loaded(run, stage).renderer.point for stage in (0, 1)]
    assert not torch.equal(*points)
    assert type(loaded(run, 2).renderer).__name__ == "Affine"
    assert torch.equal(loaded(run).renderer.matrix, loaded(run, 2).renderer.matrix)


def test_a_run_without_a_scene_says_to_go_on():
    run = SmallRun(table(SOLID), Path("a"))
    with pytest.raises(CheckpointError, match=r"a holds no scene yet\. Go on with: score-distill"):
        loaded(run)


def test_a_scene_that_begins_as_an_encoded_picture_needs_no_prior_to_be_brought_back():
    run = solid_run()
    assert loaded(run).renderer.encoded.shape == (1, 2, 1, 1)


# imageio's reader leaves the pipes of its ffmpeg to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_run_ends_with_videos_of_what_its_scene_has():
    run = solid_run()
    final = run.folder.final
    names = ["contact_sheet.png", "depth.mp4", "normals.mp4", "turntable.mp4"]
    assert sorted(path.name for path in final.iterdir()) == names
    with imageio.get_reader(final / "depth.mp4") as video:
        frames = np.stack([np.asarray(frame) for frame in video])
    height, width = frames.shape[1:3]
    means = frames[:, height // 4, 3 * width // 4].mean(-1)
    # Azimuth 0, 90, 180, 270: depth 2, 3, 2, 1; near is bright. On the left there is nothing.
    assert means.argmax() == 3 and means.argmin() == 1 and means.min() > 30
    assert frames[:, height // 4, width // 4].max() < 10


def test_a_scene_of_latents_is_shown_decoded(tmp_path):
    class Latents(AbstractRenderer):
        def __init__(self):
            super().__init__()
            self.values = torch.nn.Parameter(torch.full((9, 4, 2, 2), 0.5))

        forward = None

        def preview(self, cameras):
            return Rendering(self.values.detach())

    def decode(latents):
        assert len(latents) <= 4  # a decoder takes much memory
        return 2 * latents[:, :3].repeat_interleave(8, -1).repeat_interleave(8, -2)

    Studio(Latents(), CameraOptions(), decode).contact_sheet(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 128, 3 * 128)
        assert sheet.getpixel((0, 0)) == (255, 255, 255) == sheet.getpixel((100, 300))


def test_pictures_are_taken_from_where_the_method_saw_the_scene_at_its_smallest(tmp_path):
    class Watched(AbstractRenderer):
        def __init__(self):
            super().__init__()
            self.values = torch.nn.Parameter(torch.zeros(1))

        forward = None

        def preview(self, cameras):
            self.seen = cameras
            return Rendering(torch.zeros(len(cameras), 3, 8, 8))

    watched = Watched()
    options = CameraOptions(distance=(1.0, 1.7), vertical_fov_deg=(30.0, 60.0))
    studio = Studio(watched, options, lambda latents: latents)
    for shoot in (studio.preview, studio.contact_sheet):
        shoot(tmp_path / "picture.png")
        assert torch.allclose(watched.seen.distance, torch.tensor(1.7))
        assert torch.allclose(watched.seen.vertical_fov.rad2deg(), torch.tensor(60.0))


def test_describe_tells_how_a_scene_can_be_written(cli):
    out = cli("describe", "renderer", "solid")
    assert "score-distill export RUN --to txt, list; --set:" in out
    assert "times  default 1, ≥ 1" in out
    assert "export" not in cli("describe", "renderer", "affine")
