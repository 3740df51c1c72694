"""Event files when asked for, and a plain word when the library is missing."""

import errno
import os
import sys
from importlib.util import find_spec

import pytest

from sd_core.errors import ConfigError, RunFolderError
from sd_core.run_folder import RunFolder
from sd_core.tensorboard import scalar_writer
from small_runs import SmallRun, log_lines, table

needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="the extra [tensorboard] is not installed"
)


@pytest.fixture
def folder(tmp_path):
    with RunFolder.claimed(tmp_path / "run", experiment={"prompt": "x"}, made_by={}) as folder:
        return folder


def scalars(path, name):
    """Steps and values as TensorBoard shows them, what is hidden left out."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path)).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_nothing_is_written_unless_asked_for(folder):
    with scalar_writer(folder, stage=0, wanted=False, first_step=0) as writer:
        writer.add_scalar("loss", 1.0, 0)
    assert not (folder.path / "tensorboard").exists()


@needs_tensorboard
def test_scalars_of_every_stage_can_be_read_back(folder):
    for stage in (0, 1):
        with scalar_writer(folder, stage=stage, wanted=True, first_step=0) as writer:
            for step in range(3):
                writer.add_scalar("loss", stage + step / 2, step)
    tensorboard = folder.path / "tensorboard"
    assert scalars(tensorboard / "stage_0", "loss") == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert scalars(tensorboard / "stage_1", "loss") == [(0, 1.0), (1, 1.5), (2, 2.0)]


@needs_tensorboard
@pytest.mark.parametrize("steps", [9, 11])  # resumed at the end of stage 0, and within stage 1
def test_a_resumed_run_shows_each_step_of_each_stage_once(tmp_path, steps):
    stages = [{"steps": 6}, {"steps": 6}]
    options = table(*stages, tensorboard=True, checkpoint_every=4, turntable_frames=0)
    run = SmallRun(options, tmp_path / "run").kill(steps=steps).resume()
    for stage in (0, 1):
        shown = scalars(run.folder.path / "tensorboard" / f"stage_{stage}", "t")
        logged = [line for line in log_lines(run.folder) if line["stage"] == stage]
        assert shown == [(line["step"], pytest.approx(line["t"])) for line in logged]
        assert len(shown) == 6


@needs_tensorboard
@pytest.mark.parametrize("method", ["add_scalar", "close"])
def test_a_full_disk_is_one_line(folder, monkeypatch, method):
    """The library writes from a thread of its own and raises what that met at some later call."""
    from torch.utils.tensorboard import SummaryWriter

    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        monkeypatch.context() as patch,
        pytest.raises(RunFolderError) as caught,
        scalar_writer(folder, stage=0, wanted=True, first_step=0) as writer,
    ):
        real = writer._writer
        patch.setattr(SummaryWriter, method, no_space)
        writer.add_scalar("loss", 1.0, 0)
    real.close()
    assert str(caught.value) == (
        f"the disk is full: could not write {folder.path / 'tensorboard' / 'stage_0'}. The last "
        "checkpoint is whole: free some space and resume the run."
    )


@needs_tensorboard
def test_a_folder_that_cannot_be_made_is_named(folder):
    (folder.path / "tensorboard").touch()
    with (
        pytest.raises(RunFolderError) as caught,
        scalar_writer(folder, stage=0, wanted=True, first_step=0),
    ):
        pass
    path = folder.path / "tensorboard" / "stage_0"
    assert str(caught.value) == f"could not write {path}: Not a directory."


def test_a_missing_library_is_named_with_its_remedy(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(ConfigError) as caught,
        scalar_writer(folder, stage=0, wanted=True, first_step=0),
    ):
        pass
    assert str(caught.value) == (
        "run.tensorboard needs TensorBoard, which is not installed. "
        'Install it: pip install "sd-core[tensorboard]", or set run.tensorboard=false.'
    )
