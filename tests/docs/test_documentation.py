"""The documentation is true: its code runs.

Every block of python is run as a script of its own, and in blocks marked `console` every line that
begins with `$ score-distill` is run, one after the other. Each block has a new folder to itself, in
which `examples` leads to the examples, and which holds the files of its page: a block is a file
where the paragraph above begins with its path. Where pyproject.toml is one of them, the package of
the page is installed.
"""

import dataclasses
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sd_core.guidance import GuidanceContext
from sd_core.metric import MetricContext
from sd_core.prior import PriorContext
from sd_core.renderer import RendererContext

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "docs/*.md", "packages/*/README.md"]
BLOCK = re.compile(r"^```(python|console)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(
    r"^`([\w/]+\.\w+)` [^\n]*\n(?:[^\n]+\n)*\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL
)
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


def files_of(page: str) -> dict[str, str]:
    """What the files of a page hold, by path."""
    return dict(FILE.findall((ROOT / page).read_text("utf-8")))


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    if where := getattr(request.node, "callspec", None):
        files = files_of(where.params["where"].partition(":")[0])
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, "utf-8")
        if "pyproject.toml" in files:
            install(files["pyproject.toml"], tmp_path / "src")
    return tmp_path


def install(pyproject: str, source: Path) -> None:
    """What `pip install -e` writes down about a package; `run` puts its src/ on the path."""
    project = tomllib.loads(pyproject)["project"]
    name, version = project["name"], project["version"]
    info = source / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    needs = [f"Requires-Dist: {each}" for each in project["dependencies"]]
    head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*head, *needs, ""]))
    points = [f"{point} = {at}" for point, at in project["entry-points"]["sd_core"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[sd_core]", *points, ""]))


def run(command: str | list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    sources = os.pathsep.join(filter(None, [f"{folder}/src", os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": sources, "MPLBACKEND": "Agg"},
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


@pytest.mark.parametrize("where", ["docs/plugins.md"])
def test_the_tests_of_a_page_pass(where: str, folder: Path):
    done = run([sys.executable, "-m", "pytest", "-q", "-W", "error", "tests"], folder)
    assert re.search(r"\b(1\d|[5-9]) passed", done.stdout), done.stdout


def test_the_page_about_plugins_holds_a_whole_one():
    files = files_of("docs/plugins.md")
    code = "src/sd_guidance_drift"
    assert set(files) == {
        "pyproject.toml",
        f"{code}/__init__.py",
        f"{code}/drift.py",
        "tests/test_drift.py",
    }
    assert "class Drift(" in files[f"{code}/drift.py"]


def test_the_page_about_plugins_knows_every_context():
    text = (ROOT / "docs/plugins.md").read_text("utf-8")
    for context in (GuidanceContext, RendererContext, MetricContext, PriorContext):
        fields = ", ".join(field.name for field in dataclasses.fields(context))
        assert f"`{context.__module__}.{context.__name__}({fields})`" in text


def test_a_command_over_several_lines_is_one():
    block = "$ ls\n$ score-distill run \\\n    --seed 1\nsaved in runs\n$ score-distill plugins\n"
    assert commands(block) == ["score-distill run      --seed 1", "score-distill plugins"]


def test_code_that_fails_is_told(folder: Path):
    with pytest.raises(AssertionError, match="exit code 1"):
        run([sys.executable, "-c", "raise SystemExit(1)"], folder)
