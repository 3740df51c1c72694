"""Each example runs by the command that its first lines give; an experiment file is checked."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from sd_core.experiment import Experiment
from sd_core.plugins import load_plugins

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
EXPERIMENTS = sorted(FOLDER.glob("*.toml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_file_has_no_mistakes_and_says_how_it_is_run(path: Path):
    text = path.read_text("utf-8")
    assert f"score-distill run examples/{path.name}" in text
    assert Experiment(tomllib.loads(text), load_plugins()).stages


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_leaves_its_picture(example: Path, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(example), "--output", str(tmp_path), "--steps", "2"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    picture = tmp_path / f"{example.stem}.png"
    assert f"the picture is {picture}" in done.stdout
    with Image.open(picture) as image:
        colours = image.convert("RGB").getcolors(maxcolors=1 << 20)
    assert colours is not None and len(colours) > 10  # not blank
