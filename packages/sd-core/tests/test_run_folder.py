import errno
import fcntl
import json
import os
from contextlib import ExitStack

import pytest

from sd_core.atomic import disk_errors, new_folder, write_text
from sd_core.errors import RunFolderError
from sd_core.run_folder import RunFolder

EXPERIMENT = {"prompt": "x", "seed": 3}


def claimed(path, *, made_by=None):
    return RunFolder.claimed(path, experiment=EXPERIMENT, made_by=made_by or {})


def create(path) -> RunFolder:
    with claimed(path, made_by={"command": []}) as folder:
        return folder


def mistake(function, *arguments) -> str:
    with pytest.raises(RunFolderError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_new_run_has_its_parts_and_opens_again(tmp_path):
    folder = create(tmp_path / "deep" / "run")
    opened, experiment = RunFolder.open(folder.path)
    assert experiment == EXPERIMENT
    assert opened.path == folder.path
    assert sorted(path.name for path in folder.path.iterdir()) == [
        ".lock",
        "checkpoints",
        "config.json",
        "final",
        "made_by.json",
        "previews",
    ]


def test_an_empty_folder_may_be_used(tmp_path):
    assert create(tmp_path).path == tmp_path


def test_another_run_is_left_alone(tmp_path):
    create(tmp_path)
    assert mistake(create, tmp_path) == (
        f"{tmp_path} already holds a run. Continue it with: score-distill resume {tmp_path}, "
        "or choose another folder with --output."
    )


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    message = "{} exists and is not an empty folder. Choose another with --output."
    assert mistake(create, tmp_path) == message.format(tmp_path)
    file = tmp_path / "thesis.tex"
    assert mistake(create, file) == message.format(file)
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "run"
    assert mistake(create, inside) == f"could not write {inside}: Not a directory."
    long = tmp_path / ("x" * 300)
    assert mistake(create, long) == f"could not write {long}: File name too long."


@pytest.mark.parametrize("name", ["none", "x" * 300])
def test_what_is_no_run_folder_is_named(tmp_path, name):
    path = tmp_path / name
    message = f"{path} is not a run folder: it has no config.json."
    assert mistake(RunFolder.open, path) == message


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "{}", '{"schema": 1}', '{"schema": "x"}'])
def test_a_damaged_config_is_named(tmp_path, text):
    config = create(tmp_path).path / "config.json"
    config.write_text(text)
    message = mistake(RunFolder.open, tmp_path)
    assert message.startswith(f"{config} cannot be read (")
    assert message.endswith("). Is it damaged?")


def test_a_newer_schema_asks_for_an_update(tmp_path):
    config = create(tmp_path).path / "config.json"
    config.write_text(json.dumps({"schema": 2, "experiment": {}}))
    assert mistake(RunFolder.open, tmp_path) == (
        f"{config} has schema 2, this sd-core reads up to 1. Update sd-core."
    )


@pytest.mark.parametrize(
    ("stage", "steps_done", "kept"),
    [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 2), (1, 1, 3), (2, 0, 4)],
)
def test_the_log_is_trimmed_to_a_checkpoint(tmp_path, stage, steps_done, kept):
    folder = create(tmp_path)
    folder.trim_log(stage, steps_done)  # nothing there yet
    for at in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        folder.append_log({"stage": at[0], "step": at[1]})
    whole = folder.log.read_text()
    with folder.log.open("a") as file:
        file.write('{"stage": 0, "st')
    folder.trim_log(stage, steps_done)
    assert folder.log.read_text() == "".join(whole.splitlines(keepends=True)[:kept])


# claimed by one process


def break_off(path):
    with claimed(path):
        raise RunFolderError("a stage cannot be built.")


def test_a_claimed_run_is_locked_and_whole(tmp_path):
    with claimed(tmp_path / "run") as folder:
        assert RunFolder.open(folder.path)[1] == EXPERIMENT
        with pytest.raises(RunFolderError, match="another process is running"), folder.locked():
            pass
        assert "already holds a run" in mistake(break_off, folder.path)
    assert (folder.path / "config.json").is_file()


def test_a_mistake_before_the_first_step_leaves_nothing_behind(tmp_path):
    assert mistake(break_off, tmp_path / "run") == "a stage cannot be built."
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_of_the_users_own_stays(tmp_path):
    mistake(break_off, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_has_begun_stays(tmp_path):
    with pytest.raises(RunFolderError), claimed(tmp_path) as folder:
        folder.append_log({"step": 0})
        raise RunFolderError("the gradient is not finite.")
    assert RunFolder.open(tmp_path)[1] == EXPERIMENT


def test_a_run_that_could_not_be_written_down_leaves_nothing_behind(tmp_path, monkeypatch):
    real = os.fsync

    def fill(descriptor):
        if os.path.exists(tmp_path / "run" / "made_by.json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fill)
    assert mistake(break_off, tmp_path / "run").startswith("the disk is full: could not write ")
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_that_begins_at_the_same_moment_is_left_alone(tmp_path, monkeypatch):
    """Both have found the folder free; the other has locked it and logged nothing yet."""
    real, other = RunFolder.check_free, ExitStack()

    def check_free(path):
        real(path)
        monkeypatch.setattr(RunFolder, "check_free", staticmethod(real))
        other.enter_context(claimed(path))

    monkeypatch.setattr(RunFolder, "check_free", staticmethod(check_free))
    with other:
        assert mistake(break_off, tmp_path / "run") == (
            f"another process is running in {tmp_path / 'run'}. Wait for it, or stop it."
        )
        assert RunFolder.open(tmp_path / "run")[1] == EXPERIMENT


def test_without_locks_too_only_one_can_begin_a_run(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    other = create(tmp_path)  # just after this one has looked
    monkeypatch.setattr(RunFolder, "check_free", staticmethod(lambda path: None))
    assert mistake(break_off, tmp_path) == f"could not write {tmp_path}: File exists."
    assert RunFolder.open(other.path)[1] == EXPERIMENT


def test_a_lock_alone_is_no_run(tmp_path):
    (tmp_path / ".lock").touch()
    assert create(tmp_path).path == tmp_path


# the lock


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path):
    first, second = create(tmp_path), RunFolder.open(tmp_path)[0]
    with first.locked():
        with pytest.raises(RunFolderError) as caught, second.locked():
            pass
        assert str(caught.value) == (
            f"another process is running in {tmp_path}. Wait for it, or stop it."
        )
    with second.locked():
        pass


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError("mine")])
def test_an_error_of_the_system_during_a_run_is_not_blamed_on_the_folder(tmp_path, error):
    folder = create(tmp_path)
    with pytest.raises(OSError) as caught, folder.locked():
        raise error
    assert caught.value is error
    with folder.locked():  # and the lock was let go
        pass


def test_a_lock_that_cannot_be_made_is_named(tmp_path):
    folder = create(tmp_path)
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").mkdir()

    def lock():
        with folder.locked():
            pass

    assert mistake(lock) == f"could not write {tmp_path}: Is a directory."


# what it was resumed on


def test_each_resume_is_added_and_gives_the_record_before(tmp_path):
    with claimed(tmp_path, made_by={"versions": {"torch": "1"}}) as folder:
        pass
    assert folder.append_resumed({"n": 1}) == {"versions": {"torch": "1"}, "resumed": [{"n": 1}]}
    assert folder.append_resumed({"n": 2}) == {"n": 1}
    made_by = json.loads((tmp_path / "made_by.json").read_text())
    assert made_by == {"versions": {"torch": "1"}, "resumed": [{"n": 1}, {"n": 2}]}


def test_a_run_without_made_by_begins_a_new_one(tmp_path):
    folder = create(tmp_path)
    (tmp_path / "made_by.json").unlink()
    assert folder.append_resumed({"n": 1}) == {"resumed": [{"n": 1}]}
    assert folder.append_resumed({"n": 2}) == {"n": 1}


@pytest.mark.parametrize("text", ["", "{", "5", "[1]", '{"resumed": 5}', '{"resumed": [5]}'])
def test_a_damaged_made_by_is_named_and_left_alone(tmp_path, text):
    folder, path = create(tmp_path), tmp_path / "made_by.json"
    path.write_text(text)
    message = mistake(folder.append_resumed, {"n": 1})
    assert message.startswith(f"{path} cannot be read (")
    assert message.endswith("). Is it damaged? Move it away to resume without.")
    assert path.read_text() == text


# atomic


def test_text_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "one")

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    message = mistake(write_text, path, "two")
    assert message.startswith(f"the disk is full: could not write {path}. The last checkpoint is ")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_two_processes_that_write_one_file_do_not_touch_each_others_part(tmp_path, monkeypatch):
    path, real = tmp_path / "a.txt", os.fsync

    def meanwhile(descriptor):
        monkeypatch.setattr(os, "fsync", real)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 0)
            write_text(path, "theirs")
        assert path.read_text() == "theirs"
        real(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    write_text(path, "ours")
    assert path.read_text() == "ours"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_at_the_end_of_its_block(tmp_path):
    path = tmp_path / "whole"
    with new_folder(path) as aside:
        (aside / "file").write_text("x")
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["file"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_does_not_appear_after_an_error(tmp_path):
    path = tmp_path / "whole"
    with pytest.raises(ZeroDivisionError), new_folder(path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_that_the_run_can_go_on(tmp_path, number):
    def fill():
        with disk_errors(tmp_path):
            raise OSError(number, os.strerror(number))

    assert mistake(fill) == (
        f"the disk is full: could not write {tmp_path}. The last checkpoint is whole: free some "
        "space and resume the run."
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (OSError("[Errno 32] Broken pipe\n\nFFMPEG COMMAND:\nffmpeg -y"), "[Errno 32] Broken pipe"),
        (OSError(), "OSError"),
    ],
)
def test_any_other_refusal_of_the_system_is_one_line(tmp_path, error, reason):
    def fail():
        with disk_errors(tmp_path):
            raise error

    assert mistake(fail) == f"could not write {tmp_path}: {reason}."
