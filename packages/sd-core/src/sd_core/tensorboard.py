"""TensorBoard event files, when asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

from sd_core.atomic import disk_errors
from sd_core.errors import ConfigError
from sd_core.run_folder import RunFolder


@runtime_checkable  # the tests check types at run time
class ScalarWriter(Protocol):
    """What the runner needs of TensorBoard's writer."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...


class NoWriter:
    """Nobody asked."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        pass


class _EventWriter:
    """TensorBoard's own, whose full disk shows at some later step, as it writes from a thread."""

    def __init__(self, path: Path, first_step: int) -> None:
        self._path = path
        tensorboard = import_module("torch.utils.tensorboard")
        with disk_errors(path):
            self._writer = tensorboard.SummaryWriter(str(path), purge_step=first_step)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        with disk_errors(self._path):
            self._writer.add_scalar(tag, scalar_value, global_step)

    def close(self) -> None:
        with disk_errors(self._path):
            self._writer.close()


@contextmanager
def scalar_writer(
    folder: RunFolder, *, stage: int, wanted: bool, first_step: int
) -> Iterator[ScalarWriter]:
    """A writer into `folder/tensorboard/stage_0`; what a resumed run repeats is hidden there.

    A folder for each stage, as each counts its steps from 0, and what is hidden from a step on is
    hidden in the whole folder.
    """
    if not wanted:
        yield NoWriter()
        return
    try:
        writer = _EventWriter(folder.path / "tensorboard" / f"stage_{stage}", first_step)
    except ImportError:
        raise ConfigError(
            "run.tensorboard needs TensorBoard, which is not installed. "
            'Install it: pip install "sd-core[tensorboard]", or set run.tensorboard=false.'
        ) from None
    try:
        yield writer
    finally:
        writer.close()
