"""Files that are either whole or not there: written aside, flushed to the disk, then renamed."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sd_core.errors import RunFolderError


def write_text(path: Path, text: str) -> None:
    """Write or replace one file."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write or replace one file."""
    with disk_errors(path):
        # A name of this process: two that write the same file do not cut each other's short.
        aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        _sync(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it appears at `path` when the block ends, or not at all."""
    aside = path.with_name(f".{path.name}.partial")
    with disk_errors(path):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            yield aside
            for file in aside.iterdir():
                _sync(file)
            _sync(aside)
            if path.exists():  # same step, written again after a resume
                remove_folder(path)
            aside.rename(path)
            _sync(path.parent)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def remove_folder(path: Path) -> None:
    """Out of sight first: an interrupted removal leaves nothing at `path`."""
    aside = path.with_name(f".{path.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """What the operating system refuses, as one line that says what is still whole."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFolderError(
                f"the disk is full: could not write {path}. The last checkpoint is whole: "
                "free some space and resume the run."
            ) from error
        reason = error.strerror or (str(error) or type(error).__name__).splitlines()[0]
        raise RunFolderError(f"could not write {path}: {reason}.") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
