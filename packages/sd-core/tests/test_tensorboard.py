"""Event files when asked for, and a plain word when the library is missing."""

import sys

import pytest

from sd_core.errors import ConfigError
from sd_core.run_folder import RunFolder
from sd_core.tensorboard import scalar_writer


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", experiment={"prompt": "x"}, made_by={})


def test_nothing_is_written_unless_asked_for(folder):
    with scalar_writer(folder, wanted=False, first_step=0) as writer:
        writer.add_scalar("loss", 1.0, 0)
    assert not (folder.path / "tensorboard").exists()


def test_scalars_can_be_read_back(folder):
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with scalar_writer(folder, wanted=True, first_step=0) as writer:
        for step in range(3):
            writer.add_scalar("loss", step / 2, step)
    events = EventAccumulator(str(folder.path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (0, 0.0),
        (1, 0.5),
        (2, 1.0),
    ]


def test_a_missing_library_is_named_with_its_remedy(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(ConfigError) as caught,
        scalar_writer(folder, wanted=True, first_step=0),
    ):
        pass
    assert str(caught.value) == (
        "run.tensorboard needs TensorBoard, which is not installed. "
        'Install it: pip install "sd-core[tensorboard]", or set run.tensorboard=false.'
    )
