"""What was measured of finished runs, kept in the repository.

Run folders are large and stay where they were made. A study that takes longer than a machine is
lent therefore keeps a line of JSON for each of its parts, and goes on from these anywhere.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from sd_core.atomic import write_text

FOLDER = Path(__file__).parent / "records"


def commit() -> str:
    """Of this repository, "-dirty" where its code differs; records and documents do not count."""

    def git(*words: str) -> str:
        told = ["git", *words]
        done = subprocess.run(told, cwd=FOLDER.parent.parent, capture_output=True, text=True)
        return done.stdout.strip()

    code = ("packages", "examples", "benchmarks/*.py", "constraints.txt")
    dirty = "-dirty" if git("status", "--porcelain", "--", *code) else ""
    return git("rev-parse", "--short", "HEAD") + dirty


def made_with(records: Collection[Mapping[str, Any]]) -> str:
    """The machines and the commits of all."""
    machines = sorted({record["machine"] for record in records})
    # A record of several runs may have several.
    commits = sorted({each for record in records for each in record["commit"].split(", ")})
    return f"{'; '.join(machines)}; commits {', '.join(commits)}"


class Records:
    """Lines of `records/STUDY.jsonl`, each found by the part of the study that it is of."""

    def __init__(self, study: str, *parts: str) -> None:
        self.path = FOLDER / f"{study}.jsonl"
        self._parts = parts
        self._lines = self._read()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._lines.values())

    def of(self, *name: str | int) -> dict[str, Any] | None:
        return self._lines.get(name)

    def keep(self, line: Mapping[str, Any]) -> None:
        """In the place of an older one of the same part; in the order of the names, whoever was
        first. What another process kept meanwhile stays."""
        self._lines = {**self._read(), self._name(line): dict(line)}
        ordered = [self._lines[name] for name in sorted(self._lines)]
        self.path.parent.mkdir(exist_ok=True)
        write_text(
            self.path, "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in ordered)
        )

    def collect(self, parts: Collection[Callable[[], Mapping[str, Any]]], at_once: int) -> None:
        """Measure and keep each; one that fails is told at the end and stops no other."""
        failed = []
        with ThreadPoolExecutor(at_once) as pool:
            try:
                for done, ended in enumerate(as_completed(map(pool.submit, parts)), start=1):
                    error = ended.exception()
                    if error is None:
                        self.keep(ended.result())
                    else:
                        failed.append(f"{type(error).__name__}: {error}")
                    told = failed[-1] if error else ", ".join(map(str, self._name(ended.result())))
                    print(f"{done}/{len(parts)} {told}", flush=True)
            except BaseException:  # Ctrl-C: what has not begun does not begin
                pool.shutdown(cancel_futures=True)
                raise
        if failed:
            sys.exit("\n".join([f"{len(failed)} of {len(parts)} failed:", *failed]))

    def _read(self) -> dict[tuple[str | int, ...], dict[str, Any]]:
        lines = self.path.read_text("utf-8").splitlines() if self.path.is_file() else []
        return {self._name(line): line for line in map(json.loads, lines)}

    def _name(self, line: Mapping[str, Any]) -> tuple[str | int, ...]:
        return tuple(line[part] for part in self._parts)
