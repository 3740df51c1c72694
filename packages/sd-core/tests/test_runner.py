"""Runs that stop, die and go on; and what they leave in their folder."""

import errno
import json
import os
import random
import weakref
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from runner_world import TWO_STAGES, assert_same_end, one_stage, two_stages
from sd_core import show
from sd_core.baselines.sds import SDS
from sd_core.baselines.vsd import VSD
from sd_core.building import build_prior, build_stage
from sd_core.checkpoint import CheckpointLabel, load_checkpoint, save_checkpoint
from sd_core.errors import EstimatorDiverged, NonFiniteGradientError, RunFolderError
from sd_core.renderer import Rendering
from sd_core.renderers.affine import Affine
from sd_core.runner import Start, Stop, find_start, run_stages
from small_runs import METHODS, SmallRun, log_lines, newest_state, same, table


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 10, 19, 20])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, method, steps):
    whole = SmallRun(one_stage(method), tmp_path / "whole").go()
    run = SmallRun(one_stage(method), tmp_path / "run").go(steps=steps)
    assert run.checkpoints == [f"stage_0_step_{steps:06d}"]
    assert len(log_lines(run.folder)) == steps
    assert not (run.folder.final / "contact_sheet.png").exists()
    assert_same_end(run.resume(), whole)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("second", TWO_STAGES)
def test_two_stages_may_stop_before_at_and_after_their_border(tmp_path, method, second):
    whole = SmallRun(two_stages(method, second), tmp_path / "whole").go()
    for steps in (5, 6, 7, 12):
        run = SmallRun(two_stages(method, second), tmp_path / str(steps)).go(steps=steps)
        assert_same_end(run.resume(), whole)


def test_a_run_may_stop_again_and_again(tmp_path):
    whole = SmallRun(two_stages(), tmp_path / "whole").go()
    run = SmallRun(two_stages(), tmp_path / "run").go(steps=1)
    while run.checkpoints[-1] != "stage_1_step_000006":
        run.resume(steps=2)
    assert_same_end(run.resume(), whole)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_died_goes_on_from_its_last_checkpoint(tmp_path, method):
    options = two_stages(method, checkpoint_every=4)
    whole = SmallRun(options, tmp_path / "whole").go()
    for steps in range(1, 13):
        run = SmallRun(options, tmp_path / str(steps)).kill(steps=steps)
        assert_same_end(run.resume(), whole)


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path):
    whole = SmallRun(one_stage(checkpoint_every=4), tmp_path / "whole").go()
    run = SmallRun(one_stage(checkpoint_every=4), tmp_path / "run").kill(steps=10)
    with run.folder.log.open("a") as file:
        file.write('{"stage": 0, "step": 10, "sec')
    assert_same_end(run.resume(), whole)


def test_a_run_that_died_before_its_first_checkpoint_begins_again(tmp_path):
    whole = SmallRun(one_stage(), tmp_path / "whole").go()
    run = SmallRun(one_stage(), tmp_path / "run").kill(steps=5)
    assert find_start(run.folder) == Start()
    assert_same_end(run.resume(), whole)


def test_a_stop_between_two_steps_loses_no_step(tmp_path):
    """The consumer asks after a step was yielded, when that step's checkpoint is past."""
    run = SmallRun(one_stage(), tmp_path / "run")
    stop = Stop()
    prior = build_prior(run.experiment)
    for progress in run_stages(run.experiment, prior, run.folder, start=Start(), stop=stop):
        stop.requested = progress.step >= 4
    assert run.checkpoints == [f"stage_0_step_{len(log_lines(run.folder)):06d}"]
    assert 5 <= len(log_lines(run.folder)) <= 6


def test_pictures_and_checkpoints_do_not_change_the_result(tmp_path):
    plain = SmallRun(one_stage(), tmp_path / "plain").go()
    busy = one_stage(checkpoint_every=3, preview_every=2, turntable_frames=0)
    watched = SmallRun(busy, tmp_path / "watched").go()
    assert plain.folder.fingerprint == watched.folder.fingerprint
    assert_same_end(watched, plain)


def test_the_global_random_state_is_neither_used_nor_moved(tmp_path):
    torch.manual_seed(1)
    one = SmallRun(one_stage(), tmp_path / "one").go()
    expected = torch.Generator().manual_seed(1)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=expected))
    torch.manual_seed(2)
    assert_same_end(SmallRun(one_stage(), tmp_path / "two").go(), one)


def test_another_seed_gives_other_bits(tmp_path):
    one = SmallRun(one_stage(steps=3), tmp_path / "one").go()
    two = SmallRun({**one_stage(steps=3), "seed": 1}, tmp_path / "two").go()
    first, second = (newest_state(each.folder)["scene"]["offset"] for each in (one, two))
    assert not torch.equal(first, second)


# building what is resumed


def test_of_a_finished_stage_only_the_scene_is_built(tmp_path, monkeypatch):
    whole = SmallRun(two_stages("vsd"), tmp_path / "whole").go()
    run = SmallRun(two_stages("vsd"), tmp_path / "run").go(steps=8)

    def refuse(*_):
        raise AssertionError("the method of the finished stage was built")

    monkeypatch.setattr(VSD, "__init__", refuse)
    assert_same_end(run.resume(), whole)


class Cloud(Affine):
    """A scene whose size only its checkpoint knows, as that of Gaussians which split and die."""

    born = 3

    def __init__(self, config, context):
        super().__init__(config, context)
        self.shifts = nn.Parameter(torch.linspace(0, 1, self.born))

    def forward(self, cameras):
        return Rendering(super().forward(cameras).images + self.shifts.square().sum())

    def load_state_dict(self, state, *args, **options):
        self.shifts = nn.Parameter(torch.empty_like(state["shifts"]))
        return super().load_state_dict(state, *args, **options)


@pytest.mark.parametrize("steps", [3, 6, 8])
def test_a_scene_that_takes_its_size_from_the_checkpoint_resumes(tmp_path, monkeypatch, steps):
    monkeypatch.setattr("sd_core.renderers.affine.Affine", Cloud)
    whole = SmallRun(two_stages(), tmp_path / "whole").go()
    run = SmallRun(two_stages(), tmp_path / "run").go(steps=steps)
    monkeypatch.setattr(Cloud, "born", 1)
    assert_same_end(run.resume(), whole)


def test_what_a_scene_draws_never_shifts_the_method(tmp_path, monkeypatch):
    """A resumed scene is loaded between the two; a method may hold what is in no checkpoint."""

    def drawing(kind, count):
        real = kind.__init__

        def build(self, config, context):
            real(self, config, context)
            self.drawn = torch.rand(count)

        return build

    experiment = SmallRun(one_stage("vsd"), tmp_path).experiment
    prior = build_prior(experiment)
    monkeypatch.setattr(VSD, "__init__", drawing(VSD, 3))
    drawn = []
    for count in (1, 1, 5):
        with monkeypatch.context() as patch:
            patch.setattr(Affine, "__init__", drawing(Affine, count))
            drawn.append(build_stage(experiment, 0, prior, None))
    assert torch.equal(drawn[0].renderer.drawn, drawn[1].renderer.drawn)
    assert torch.equal(drawn[0].guidance.drawn, drawn[1].guidance.drawn)
    assert torch.equal(drawn[0].guidance.drawn, drawn[2].guidance.drawn)


def test_the_state_of_a_checkpoint_is_let_go_of_once_it_is_loaded(tmp_path):
    """With its moments and networks it may be larger than the scene by far."""
    run = SmallRun(one_stage("vsd"), tmp_path / "run").go(steps=3)
    start = find_start(run.folder)
    held = [
        weakref.ref(tensor)
        for part in ("scene", "guidance")
        for tensor in start.state[part].values()
        if isinstance(tensor, torch.Tensor)
    ]
    moments = weakref.WeakSet(start.state["optimiser"]["state"][0].values())
    assert held and moments
    prior = build_prior(run.experiment)
    running = run_stages(run.experiment, prior, run.folder, start=start, stop=Stop())
    next(running)
    assert start == Start(0, 3)  # still held, as by the command
    assert not any(each() is not None for each in held)
    running.close()
    del running
    assert not moments  # these were the optimiser's own


# what turned sick


@pytest.mark.parametrize("stage", [0, 1])
def test_a_sick_stage_is_named_with_a_command_that_changes_it(tmp_path, stage):
    stages = [{"steps": 6}, {"steps": 6}]
    stages[stage] |= {"guidance": {"name": "sick"}, "optimiser": {"learning_rate": 0.3}}
    run = SmallRun(table(*stages), tmp_path / "run")
    with pytest.raises(NonFiniteGradientError) as caught:
        run.go()
    assert str(caught.value) == (
        f"stage {stage}: guidance 'sick' gave a non-finite gradient at step 3 (t = 501, 2 of 4 "
        "samples). Try a smaller learning rate or guidance scale, or run the prior in float32. "
        f"For example: score-distill run {tmp_path / 'run' / 'config.json'} "
        f"--set stages.{stage}.optimiser.learning_rate=0.15 --output NEW."
    )


def test_an_estimator_that_diverged_is_named_without_the_scenes_learning_rate(
    tmp_path, monkeypatch
):
    def diverged(*_, **__):
        raise EstimatorDiverged("its gradient is not finite. Try a smaller one.")

    monkeypatch.setattr(SDS, "update_estimator", diverged)
    with pytest.raises(EstimatorDiverged) as caught:
        SmallRun(table({"steps": 2}), tmp_path / "run").go()
    assert str(caught.value) == "stage 0: its gradient is not finite. Try a smaller one."


# what is written


def test_a_method_has_a_folder_in_the_run_of_its_stage_alone(tmp_path, monkeypatch):
    told = []

    def noting(kind):
        real = kind.__init__

        def build(self, config, context):
            told.append((kind.__name__, context.folder))
            real(self, config, context)

        return build

    for kind in (SDS, VSD):
        monkeypatch.setattr(kind, "__init__", noting(kind))
    mix = {"name": "mix", "target": "sds", "source": "vsd"}
    run = SmallRun(table({"steps": 2}, {"steps": 4, "guidance": mix}), tmp_path / "run")
    run.go(steps=5)
    guidance = tmp_path / "run" / "guidance"
    mixed = [("SDS", guidance / "stage_1" / "sds"), ("VSD", guidance / "stage_1" / "vsd")]
    assert told == [("SDS", guidance / "stage_0"), *mixed]
    assert not guidance.exists()  # these two leave nothing
    told.clear()
    run.resume()
    assert told == mixed
    told.clear()
    build_stage(run.experiment, 0, build_prior(run.experiment), None)
    assert told == [("SDS", None)]


def test_the_log_has_one_line_a_step(tmp_path):
    run = SmallRun(two_stages(), tmp_path / "run").go()
    lines = [json.loads(line) for line in run.folder.log.read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        (stage, step) for stage in (0, 1) for step in range(6)
    ]
    assert all(set(line) == {"stage", "step", "seconds", "gradient_norm", "t"} for line in lines)


def test_previews_come_when_asked_for_and_show_no_blank_cells(tmp_path):
    run = SmallRun(one_stage(steps=5, preview_every=2), tmp_path / "run").go()
    previews = sorted(run.folder.previews.iterdir())
    assert [path.name for path in previews] == [
        "stage_0_step_000002.png",
        "stage_0_step_000004.png",
    ]
    with Image.open(previews[0]) as picture:
        assert picture.size == (256, 256)  # the affine scene has but one picture


def test_the_last_two_checkpoints_are_kept(tmp_path):
    run = SmallRun(one_stage(steps=11, checkpoint_every=2), tmp_path / "run").go()
    assert run.checkpoints == ["stage_0_step_000010", "stage_0_step_000011"]


def test_the_contact_sheet_comes_last_as_resume_takes_it_for_the_end(tmp_path, monkeypatch):
    def die(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(show, "save_video", die)
    tiles = {"steps": 1, "renderer": {"name": "tiles"}, "guidance": {"name": "sick"}}
    points = {"name": "gaussian-mixture", "shape": [3, 1, 1]}
    points["components"] = [{"mean": [0.5] * 3, "covariance": torch.eye(3).tolist()}]
    tiles["renderer"]["side"] = 1
    run = SmallRun({**table(tiles), "prior": points}, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run.go()
    assert not (run.folder.final / "contact_sheet.png").exists()


# a full disk


def fill_disk(monkeypatch, owner, name, full):
    """From when `full(first argument)` on, `owner.name` finds no space."""
    real = getattr(owner, name)

    def write(first, *args, **options):
        if full(first):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(first))
        return real(first, *args, **options)

    monkeypatch.setattr(owner, name, write)


@pytest.mark.parametrize("what", ["fsync", "tensors", "log", "preview"])
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tmp_path, monkeypatch, what):
    options = one_stage(checkpoint_every=4, preview_every=6)
    whole = SmallRun(options, tmp_path / "whole").go()
    run = SmallRun(options, tmp_path / "run")
    run.folder.log.touch()

    def late(*_):
        with open(run.folder.log) as file:  # not Path.open, which may be the one that is full
            return len(file.readlines()) >= 9

    def log_late(path):
        return path == run.folder.log and path.is_file() and late()

    owner, name, full, victim = {
        "fsync": (os, "fsync", late, "checkpoints/stage_0_step_000012"),
        "tensors": (Path, "write_bytes", late, "checkpoints/stage_0_step_000012"),
        "log": (Path, "open", log_late, "log.jsonl"),
        "preview": (Image.Image, "save", late, "previews/stage_0_step_000012.png"),
    }[what]
    with monkeypatch.context() as patch:
        fill_disk(patch, owner, name, full)
        with pytest.raises(RunFolderError) as caught:
            run.go()
    assert str(caught.value) == (
        f"the disk is full: could not write {tmp_path / 'run' / victim}. The last checkpoint is "
        "whole: free some space and resume the run."
    )
    assert run.checkpoints == ["stage_0_step_000004", "stage_0_step_000008"]
    assert not any("partial" in path.name for path in run.folder.checkpoints.iterdir())
    assert_same_end(run.resume(), whole)


def test_a_log_line_that_a_full_disk_cut_short_is_dropped(tmp_path):
    run = SmallRun(one_stage(checkpoint_every=4), tmp_path / "run").kill(steps=6)
    text = run.folder.log.read_text()
    run.folder.log.write_text(text[:-20])
    whole = SmallRun(one_stage(), tmp_path / "whole").go()
    assert_same_end(run.resume(), whole)


# by chance: any sequence of stops, deaths and resumes


@pytest.mark.parametrize("seed", range(4))
def test_any_history_ends_in_the_same_bits(tmp_path, seed):
    chance = random.Random(seed)
    options = two_stages(chance.choice(list(METHODS)), chance.choice(list(TWO_STAGES)))
    whole = SmallRun(options, tmp_path / "whole").go()
    options["run"]["checkpoint_every"] = chance.choice([2, 3, 5])
    run = SmallRun(options, tmp_path / "run").kill(steps=chance.randint(1, 12))
    for _ in range(3):
        previous = len(run.checkpoints) == 2 and chance.random() < 0.5
        run.resume(previous=previous, steps=chance.randint(1, 3))
    assert_same_end(run.resume(), whole)


def test_a_checkpoint_at_the_end_of_the_run_leaves_only_the_pictures_to_do(tmp_path):
    run = SmallRun(one_stage(steps=4), tmp_path / "run").go(steps=4)
    before = newest_state(run.folder)
    assert same(newest_state(run.resume().folder), before)
    assert (run.folder.final / "contact_sheet.png").is_file()


def test_a_stage_label_without_state_is_enough_for_a_scene(tmp_path):
    path = save_checkpoint(tmp_path, CheckpointLabel("x", 0, 1), {"scene": {}})
    assert load_checkpoint(path, experiment="x")[1] == {"scene": {}}
