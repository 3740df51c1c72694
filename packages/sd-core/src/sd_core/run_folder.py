"""A run folder: what made it, the log, previews, checkpoints, scenes and final pictures.

config.json   the experiment as resolved; `score-distill run config.json` repeats it
made_by.json  versions, plugins, prior, machine; again for each time that it was resumed
log.jsonl     one line a step
previews/     pictures along the way
checkpoints/  the last two
scenes/       the scene at the end of each stage
guidance/     what a stage's method leaves to look at, if anything
final/        contact sheet, turntable, depth, normals; what `export` writes
metrics.json  what `evaluate` measured, from which views, with which versions
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from sd_core.atomic import disk_errors, write_text
from sd_core.errors import RunFolderError, ScoreDistillationError
from sd_core.experiment_options import Table
from sd_core.locks import LOCK_FILE, alone_in

SCHEMA = 1


def fingerprint(experiment: Table) -> str:
    """Names what is computed: equal for two experiments that differ only in `run`."""
    table = {key: value for key, value in experiment.items() if key != "run"}
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:16]


class RunFolder:
    """Paths and files of one run. Every write is whole or reported.

    `fingerprint` is that of the experiment as it was written down when the run began: options that
    later versions add do not change it.
    """

    def __init__(self, path: Path, experiment: Table) -> None:
        self.path = path
        self.fingerprint = fingerprint(experiment)
        self.checkpoints = path / "checkpoints"
        self.final = path / "final"
        self.log = path / "log.jsonl"
        self.metrics = path / "metrics.json"

    @classmethod
    @contextmanager
    def claimed(cls, path: Path, *, experiment: Table, made_by: Table) -> Iterator["RunFolder"]:
        """A new run that is locked. A mistake before its first step leaves nothing of it behind.

        Nothing is removed but by who has the lock and began the run.
        """
        cls.check_free(path)
        folder = cls(path, experiment)
        with disk_errors(path):
            new = _made(path)
        with folder.locked():
            cls.check_free(path)  # another process may have been quicker
            with disk_errors(path):
                folder.checkpoints.mkdir()  # only one can, where there are no locks either
            try:
                folder._make_folders()
                write_text(path / "made_by.json", json.dumps(made_by, indent=2) + "\n")
                # Last: a folder with a config.json is a run that can be resumed.
                config = {"schema": SCHEMA, "experiment": experiment}
                write_text(path / "config.json", json.dumps(config, indent=2) + "\n")
                yield folder
            except ScoreDistillationError:
                if not folder.log.exists():  # some mistakes show only when the stages are built
                    folder._empty()
                    if new:
                        with suppress(OSError):  # not empty: somebody is putting things in
                            path.rmdir()
                raise

    @staticmethod
    def check_free(path: Path) -> None:
        """A folder that holds anything is left alone."""
        with disk_errors(path):  # a name that is too long, a folder that may not be read
            # A lock tells nothing: it is there before the run, and may outlive it.
            if not path.exists() or (
                path.is_dir() and all(each.name == LOCK_FILE for each in path.iterdir())
            ):
                return
        if (path / "config.json").is_file():
            raise RunFolderError(
                f"{path} already holds a run. Continue it with: score-distill resume {path}, "
                "or choose another folder with --output."
            )
        raise RunFolderError(
            f"{path} exists and is not an empty folder. Choose another with --output."
        )

    @classmethod
    def open(cls, path: Path) -> tuple["RunFolder", Table]:
        """An existing run and its experiment."""
        config = path / "config.json"
        if not os.path.isfile(config):  # unlike Path.is_file, false for a name that is too long
            raise RunFolderError(f"{path} is not a run folder: it has no config.json.")
        try:
            content = json.loads(config.read_text("utf-8"))
            schema, experiment = int(content["schema"]), dict(content["experiment"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{config} cannot be read ({error}). Is it damaged?") from None
        if schema > SCHEMA:
            raise RunFolderError(
                f"{config} has schema {schema}, this sd-core reads up to {SCHEMA}. Update sd-core."
            )
        folder = cls(path, experiment)
        folder._make_folders()
        return folder, experiment

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else may run in here meanwhile."""
        return alone_in(self.path)

    def _empty(self) -> None:
        """As far as it can be; the mistake that led here is what has to be told."""
        with suppress(OSError):
            for part in list(self.path.iterdir()):
                if part.is_dir():
                    shutil.rmtree(part, ignore_errors=True)
                else:
                    part.unlink(missing_ok=True)

    def _make_folders(self) -> None:
        with disk_errors(self.path):
            for part in (self.path, self.checkpoints, self.previews, self.final):
                part.mkdir(parents=True, exist_ok=True)

    @property
    def previews(self) -> Path:
        return self.path / "previews"

    def scenes(self, stage: int) -> Path:
        return self.path / "scenes" / f"stage_{stage}"

    def guidance(self, stage: int) -> Path:
        """For the method of that stage, which makes it if it has something to leave."""
        return self.path / "guidance" / f"stage_{stage}"

    def append_resumed(self, record: Table) -> Table:
        """Add to the list `resumed` of made_by.json; gives the record before, the run's own first.

        Empty where the file is gone: a run can go on without it.
        """
        path = self.path / "made_by.json"
        try:
            told = dict(json.loads(path.read_text("utf-8")))
            earlier = [dict(each) for each in told.get("resumed", [])]
        except FileNotFoundError:
            told, earlier = {}, []
        except (OSError, ValueError, TypeError) as error:
            raise RunFolderError(
                f"{path} cannot be read ({error}). Is it damaged? Move it away to resume without."
            ) from None
        told["resumed"] = [*earlier, record]
        write_text(path, json.dumps(told, indent=2) + "\n")
        return earlier[-1] if earlier else told

    def append_log(self, line: dict[str, Any]) -> None:
        with disk_errors(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def trim_log(self, stage: int, steps_done: int) -> None:
        """Drop what was logged after the checkpoint that a resumed run starts from."""
        if not self.log.is_file():
            return
        with disk_errors(self.log):
            lines = self.log.read_text("utf-8").splitlines()
        kept = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # the line that a kill cut short
                continue
            if (entry["stage"], entry["step"]) < (stage, steps_done):
                kept.append(line + "\n")
        write_text(self.log, "".join(kept))


def _made(path: Path) -> bool:
    """Makes the folder, unless it is there already."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    return True
