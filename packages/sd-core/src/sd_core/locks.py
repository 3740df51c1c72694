"""Locks on a folder between processes. The system lets go when a process ends, however it ends.

Where the file system has none (Lustre, some NFS and FUSE) a line on stderr says so, and all goes on
without; on Windows it goes on without a word.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sd_core.atomic import disk_errors
from sd_core.errors import RunFolderError

LOCK_FILE = ".lock"
# What systems say that have no locks; not all of them have all of these names for one number.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Refused where another process is in here already. For as long as a run takes.

    By a file that stays, as NFS keeps locks between machines on files alone.
    """
    # To append: opening changes nothing, so that a finished run stays as it is.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    with _held(folder, folder / LOCK_FILE, flags, wait=False):
        yield


@contextmanager
def turn_in(folder: Path) -> Iterator[None]:
    """Waits until no other process has its turn. For a moment, also where one is `alone_in` here.

    By the folder itself, which may be a user's own: no file of ours is left in it.
    """
    with _held(folder, folder, os.O_RDONLY, wait=True):
        yield


@contextmanager
def _held(folder: Path, target: Path, flags: int, *, wait: bool) -> Iterator[None]:
    if sys.platform == "win32":  # no such locks there
        yield
        return
    import fcntl

    # The block runs outside `disk_errors`: an OSError in there need not be about this folder.
    with ExitStack() as held:
        with disk_errors(folder):
            descriptor = os.open(target, flags, 0o666)
            held.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise RunFolderError(
                    f"another process is running in {folder}. Wait for it, or stop it."
                ) from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                _say_unlocked(folder, error)
        if not target.exists():  # who had the lock before has removed what was locked
            raise RunFolderError(f"another process has just removed {folder}. Try again.")
        yield


def _say_unlocked(folder: Path, error: OSError) -> None:
    print(
        f"score-distill: {folder} cannot be locked on this file system ({error.strerror}), going "
        "on without: let no second process write there meanwhile.",
        file=sys.stderr,
        flush=True,
    )
