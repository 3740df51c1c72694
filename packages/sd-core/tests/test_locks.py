"""Locks between processes, and systems that have none."""

import errno
import fcntl
import itertools
import os
from threading import Thread

import pytest

from sd_core import evaluation_record
from sd_core.errors import RunFolderError
from sd_core.evaluation_record import read_record, write_record
from sd_core.locks import LOCK_FILE, alone_in, turn_in

KINDS = pytest.mark.parametrize("lock", [alone_in, turn_in])


def refuse_with(monkeypatch, number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


def is_free(folder) -> bool:
    """Whether somebody else could have his turn at once."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@KINDS
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_all_goes_on_and_one_line_says_so(
    tmp_path, monkeypatch, capsys, lock, number
):
    refuse_with(monkeypatch, number)
    with lock(tmp_path):
        done = True
    assert done
    assert capsys.readouterr() == (
        "",
        f"score-distill: {tmp_path} cannot be locked on this file system ({os.strerror(number)}), "
        "going on without: let no second process write there meanwhile.\n",
    )


@KINDS
def test_any_other_trouble_with_a_lock_is_an_error(tmp_path, monkeypatch, lock):
    refuse_with(monkeypatch, errno.EIO)
    with pytest.raises(RunFolderError) as caught, lock(tmp_path):
        pass
    assert str(caught.value) == f"could not write {tmp_path}: Input/output error."


def test_what_was_removed_while_it_was_opened_is_not_locked(tmp_path, monkeypatch):
    real = fcntl.flock

    def flock(descriptor, operation):
        (tmp_path / LOCK_FILE).unlink()  # by a run that ended in a mistake just now
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RunFolderError) as caught, alone_in(tmp_path):
        pass
    assert str(caught.value) == f"another process has just removed {tmp_path}. Try again."


def test_turns_leave_no_file_and_do_not_stand_in_the_way_of_a_run(tmp_path):
    with turn_in(tmp_path):
        assert list(tmp_path.iterdir()) == []
        with alone_in(tmp_path):
            assert not is_free(tmp_path)
    assert is_free(tmp_path)


# what is written in turns


def told(name):
    return {"views": {}, "scene": {}, "metrics": {name: {"values": {}}}}


def test_a_record_is_read_merged_and_written_in_one_turn(tmp_path, monkeypatch):
    path, seen = tmp_path / "metrics.json", []

    def watched(name):
        real = getattr(evaluation_record, name)

        def call(*arguments):
            seen.append((name, is_free(tmp_path)))
            return real(*arguments)

        return call

    for name in ("read_record", "merged", "write_text"):
        monkeypatch.setattr(evaluation_record, name, watched(name))
    write_record(path, told("cab"))
    assert seen == [("read_record", False), ("merged", False), ("write_text", False)]
    assert is_free(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_of_many_at_once_none_loses_what_another_measured(tmp_path):
    path = tmp_path / "metrics.json"
    names = [[f"{writer}-{count}" for count in range(10)] for writer in range(8)]

    def write(own):
        for name in own:
            write_record(path, told(name))

    threads = [Thread(target=write, args=[own]) for own in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read_record(path)["metrics"]) == sorted(itertools.chain(*names))
