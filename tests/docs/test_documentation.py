"""The documentation is true: its code runs.

Every block of python is run as a script of its own, and in blocks marked `console` every line that
begins with `$ score-distill` is run, one after the other. Each block has a new folder to itself, in
which `examples` leads to the examples.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "docs/*.md", "packages/*/README.md"]
BLOCK = re.compile(r"^```(python|console)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (score-distill .*)$", re.MULTILINE)
MOST_SECONDS = 300


def blocks(language: str) -> dict[str, str]:
    """Every block of the language, by where it stands."""
    found = {}
    for path in sorted(path for page in PAGES for path in ROOT.glob(page)):
        text = path.read_text("utf-8")
        for block in BLOCK.finditer(text):
            if block[1] == language:
                line = text.count("\n", 0, block.start()) + 1
                found[f"{path.relative_to(ROOT)}:{line}"] = block[2]
    return found


def commands(block: str) -> list[str]:
    """The `score-distill` lines of a block; a line that ends in a backslash goes on."""
    return COMMAND.findall(block.replace("\\\n", " "))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    return tmp_path


def run(command: str | list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env={**os.environ, "PATH": path, "MPLBACKEND": "Agg"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=MOST_SECONDS,
    )
    assert done.returncode == 0, f"{command}\nexit code {done.returncode}\n{done.stderr}"
    return done


PYTHON = blocks("python")
CONSOLE = {where: block for where, block in blocks("console").items() if commands(block)}


@pytest.mark.parametrize("where", sorted(PYTHON))
def test_python_runs(where: str, folder: Path):
    (folder / "block.py").write_text(PYTHON[where], "utf-8")
    run([sys.executable, "block.py"], folder)


@pytest.mark.parametrize("where", sorted(CONSOLE))
def test_commands_succeed(where: str, folder: Path):
    for command in commands(CONSOLE[where]):
        run(command, folder)


def test_a_command_over_several_lines_is_one():
    block = "$ ls\n$ score-distill run \\\n    --seed 1\nsaved in runs\n$ score-distill plugins\n"
    assert commands(block) == ["score-distill run      --seed 1", "score-distill plugins"]


def test_code_that_fails_is_told(folder: Path):
    with pytest.raises(AssertionError, match="exit code 1"):
        run([sys.executable, "-c", "raise SystemExit(1)"], folder)
