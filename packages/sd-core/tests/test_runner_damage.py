"""Checkpoints that are damaged, lost or of another run."""

import pytest
import torch

from runner_world import assert_same_end, one_stage, two_stages
from sd_core.checkpoint import list_checkpoints
from sd_core.errors import CheckpointError
from sd_core.runner import Start, find_start
from small_runs import SmallRun


def start_again(run) -> str:
    config = run.folder.path / "config.json"
    return f"Start again in another folder: score-distill run {config} --output NEW."


def damage(run):
    newest = list_checkpoints(run.folder.checkpoints)[-1]
    file = newest / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    return newest


def test_previous_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path):
    options = one_stage(checkpoint_every=5)
    whole = SmallRun(options, tmp_path / "whole").go()
    run = SmallRun(options, tmp_path / "run").kill(steps=13)
    newest = damage(run)
    with pytest.raises(CheckpointError, match=rf"{newest} is damaged: .* with --previous\."):
        run.resume()
    assert find_start(run.folder, previous=True).steps_done == 5
    assert_same_end(run.resume(previous=True), whole)


def test_previous_drops_the_checkpoint_that_it_left(tmp_path):
    """Else a later resume would jump ahead to it, over steps that the log no longer has."""
    run = SmallRun(one_stage(checkpoint_every=5), tmp_path / "run").kill(steps=13)
    damage(run)
    run.resume(previous=True, steps=2)
    assert run.checkpoints == ["stage_0_step_000005", "stage_0_step_000007"]
    whole = SmallRun(one_stage(checkpoint_every=5), tmp_path / "whole").go()
    assert_same_end(run.resume(), whole)


@pytest.mark.parametrize("steps", [1, 6])
def test_previous_needs_two_checkpoints(tmp_path, steps):
    run = SmallRun(one_stage(checkpoint_every=5), tmp_path / "run").kill(steps=steps)
    with pytest.raises(CheckpointError) as caught:
        run.resume(previous=True)
    assert str(caught.value) == (
        f"{tmp_path / 'run'} has no checkpoint before its newest one. {start_again(run)}"
    )


@pytest.mark.parametrize(("steps", "previous"), [(6, False), (13, True)])
def test_damage_with_no_checkpoint_before_it_needs_a_new_start(tmp_path, steps, previous):
    run = SmallRun(one_stage(checkpoint_every=5), tmp_path / "run").kill(steps=steps)
    oldest = list_checkpoints(run.folder.checkpoints)[0]
    (oldest / "state.json").write_text("")
    with pytest.raises(CheckpointError) as caught:
        run.resume(previous=previous)
    assert str(caught.value).startswith(f"checkpoint {oldest} is damaged: state.json cannot be ")
    assert str(caught.value).endswith(f"). {start_again(run)}")


# what does not fit


def test_a_checkpoint_of_another_experiment_is_refused(tmp_path):
    run = SmallRun(one_stage(), tmp_path / "run").go(steps=3)
    other = SmallRun(one_stage(steps=21), tmp_path / "other")
    list_checkpoints(run.folder.checkpoints)[0].rename(
        other.folder.checkpoints / run.checkpoints[0]
    )
    with pytest.raises(CheckpointError, match="belongs to another experiment"):
        other.resume()


def resume_with(run, **changed):
    start = find_start(run.folder)
    return run.go(Start(start.stage, start.steps_done, {**start.state, **changed}))


@pytest.mark.parametrize("what", ["scene", "guidance"])
def test_a_scene_of_another_plugin_version_is_refused(tmp_path, what):
    run = SmallRun(one_stage(), tmp_path / "run").go(steps=3)
    with pytest.raises(CheckpointError) as caught:
        resume_with(run, **{what: {"novel": torch.zeros(2)}})
    message = str(caught.value)
    assert message.startswith(f"the checkpoint's {what} does not fit ")
    assert "'novel'" not in message.partition(":")[0]
    assert message.endswith("Was a plugin updated since?")
    assert "\n" not in message


def test_a_generator_of_another_device_is_refused(tmp_path):
    """CUDA's generators have a state of 16 bytes."""
    run = SmallRun(one_stage(), tmp_path / "run").go(steps=3)
    with pytest.raises(CheckpointError) as caught:
        resume_with(run, generator=torch.zeros(16, dtype=torch.uint8))
    message = str(caught.value)
    assert message.startswith("the checkpoint does not fit this machine or these plugins: ")
    assert message.endswith("the kind of device that it was written on (this is cpu).")
    assert "\n" not in message


def test_a_lost_scene_of_an_earlier_stage_is_named(tmp_path):
    run = SmallRun(two_stages(), tmp_path / "run").go(steps=8)
    scenes = run.folder.scenes(0)
    scenes.rename(scenes.with_name("elsewhere"))
    with pytest.raises(CheckpointError) as caught:
        run.resume()
    assert str(caught.value) == (
        f"{tmp_path / 'run'} lacks the finished scene of stage 0. {start_again(run)}"
    )


def test_a_damaged_scene_of_an_earlier_stage_needs_a_new_start(tmp_path):
    """--previous would go back to a checkpoint that needs this scene as well."""
    run = SmallRun(two_stages(checkpoint_every=2), tmp_path / "run").go(steps=10)
    assert run.checkpoints == ["stage_1_step_000002", "stage_1_step_000004"]
    (scene,) = list_checkpoints(run.folder.scenes(0))
    (scene / "state.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        run.resume()
    assert str(caught.value) == (
        f"checkpoint {scene} is damaged: the checksum of state.safetensors does not match. "
        f"{start_again(run)}"
    )
