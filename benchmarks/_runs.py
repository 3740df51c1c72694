"""Studies made of many runs: each begins or goes on by the command, one thread each."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from _records import commit

from sd_core.atomic import write_text

COMMIT, DIGEST = "commit.txt", "experiment.sha256"  # in the run folder


def score_distill(*arguments: str) -> None:
    """The last line of what it says is told where it fails."""
    command = [sys.executable, "-c", "import sys; from sd_core.cli import main; sys.exit(main())"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], env=alone, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        sys.exit(f"score-distill {' '.join(arguments)}: {said[-1] if said else done.returncode}")


def finished(folder: Path) -> bool:
    return (folder / "final" / "contact_sheet.png").is_file()


def complete(folder: Path, *arguments: str) -> None:
    """`score-distill run` with these arguments into this folder, from where it was stopped."""
    command = [
        *("run", *arguments, "--output", str(folder), "--quiet"),
        *("--set", "run.threads=1", "--set", "run.turntable_frames=0"),
    ]
    digest = _digest(arguments)
    if not (folder / "config.json").is_file():
        score_distill(*command)
        write_text(folder / COMMIT, commit())
        write_text(folder / DIGEST, digest)
        return
    told = json.loads((folder / "made_by.json").read_text("utf-8"))["command"]
    if _anywhere(told) != _anywhere(command):
        sys.exit(f"{folder} was made by another command, delete it: {' '.join(told)}")
    if (folder / DIGEST).is_file() and (folder / DIGEST).read_text("utf-8") != digest:
        sys.exit(f"{folder} was made by another version of its experiment file, delete it")
    if not finished(folder):
        score_distill("resume", str(folder), "--quiet")
        write_text(folder / COMMIT, commit())


def _digest(arguments: Sequence[str]) -> str:
    """Of the experiment files among them: the command alone does not say what was in them."""
    files = [Path(each) for each in arguments if each.endswith(".toml")]
    return sha256(b"".join(each.read_bytes() for each in files)).hexdigest()


def commit_of(folder: Path) -> str:
    """Of the code that finished the run; this one's, of a run from before that was noted."""
    noted = folder / COMMIT
    return noted.read_text("utf-8").strip() if noted.is_file() else commit()


def _anywhere(command: list[str]) -> list[str]:
    """Without what comes before runs/ and examples/: a study may have moved."""
    return [re.sub(r"(^|=)/\S*/(?=(runs|examples)/)", r"\1", word) for word in command]


def minutes(folder: Path) -> float:
    """Of all the processes that a run took: in each, the log counts from 0."""
    lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
    seconds = [json.loads(line)["seconds"] for line in lines]
    ends = [now for now, after in zip(seconds, [*seconds[1:], 0.0], strict=True) if after < now]
    return sum(ends) / 60


def weights(folder: Path) -> str:
    """Which model a run was made with."""
    made_by = json.loads((folder / "made_by.json").read_text("utf-8"))
    return str(made_by["prior"].get("weights", ""))
