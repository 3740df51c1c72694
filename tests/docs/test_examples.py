"""Each example runs by the command that its first lines give, and leaves a picture."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


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
