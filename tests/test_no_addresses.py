"""Nothing in the repository depends on one machine: no paths of its own, no package indexes."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOMES = "|".join(["home", "root", "opt", "work", "Users"])
MACHINE_PATH = re.compile(rf"(?<![\w.~/-])/({HOMES})/[\w.-]")
INDEX = re.compile(r"(index-url|find-links)\W+(https?:|file:|/\w)", re.IGNORECASE)


def addresses(text: str) -> list[str]:
    """The lines of a text that name a place which only one machine has."""
    return [line for line in text.splitlines() if MACHINE_PATH.search(line) or INDEX.search(line)]


def test_no_file_names_a_machine():
    ask = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    found = []
    for name in set(listed.splitlines()):
        path = ROOT / name
        try:
            text = path.read_text("utf-8") if path.is_file() else ""
        except UnicodeDecodeError:  # a picture
            continue
        found += [f"{name}: {line.strip()}" for line in addresses(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "see " + "/".join(["", "home", "ada", "notes.txt"]),
        "index-" + "url = https://example.org/simple",
        "find-" + "links = /wheels",
    ],
)
def test_an_address_is_found(line):
    assert addresses(line) == [line]


@pytest.mark.parametrize(
    "line",
    ["https://example.org/home/page", "runs/work/out", "src/opt/adam.py", "find-links folder"],
)
def test_what_is_none_is_left_alone(line):
    assert addresses(line) == []
