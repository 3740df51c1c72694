"""TensorBoard event files, when asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Protocol, runtime_checkable

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


@contextmanager
def scalar_writer(folder: RunFolder, *, wanted: bool, first_step: int) -> Iterator[ScalarWriter]:
    """A writer into `folder/tensorboard`; what a resumed run repeats is hidden from the plots."""
    if not wanted:
        yield NoWriter()
        return
    try:
        tensorboard = import_module("torch.utils.tensorboard")
    except ImportError:
        raise ConfigError(
            "run.tensorboard needs TensorBoard, which is not installed. "
            'Install it: pip install "sd-core[tensorboard]", or set run.tensorboard=false.'
        ) from None
    writer = tensorboard.SummaryWriter(str(folder.path / "tensorboard"), purge_step=first_step)
    try:
        yield writer
    finally:
        writer.close()
