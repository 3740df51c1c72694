"""What `nox -s new_plugin` writes and refuses; the session `template` builds and tests it."""

import tomllib
from pathlib import Path

import noxfile
import pytest


def test_a_plugin_is_renamed_in_every_spelling(tmp_path: Path):
    folder = noxfile.write_plugin("guidance", "red-2-bears", tmp_path)
    assert folder == tmp_path / "sd-guidance-red-2-bears"
    code = folder / "src" / "sd_guidance_red_2_bears"
    assert (code / "py.typed").is_file()
    assert "class Red2Bears(ResidualGuidance)" in (code / "red_2_bears.py").read_text()
    assert (folder / "tests" / "test_red_2_bears.py").is_file()
    written = [path for path in folder.rglob("*") if path.is_file()]
    for path in written:
        text = f"{path.relative_to(tmp_path)} {path.read_text()}".lower()
        assert not any(word in text for word in ("my-method", "my_method", "mymethod", "my method"))
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["sd_core"] == {"red-2-bears": "sd_guidance_red_2_bears"}


def test_its_front_is_short():
    (front,) = noxfile.TEMPLATES.glob("guidance/src/*/__init__.py")
    assert len(front.read_text().splitlines()) <= 20


def test_an_existing_folder_is_left_alone(tmp_path: Path):
    mine = tmp_path / "sd-guidance-esd" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    with pytest.raises(ValueError, match="exists already and is left alone"):
        noxfile.write_plugin("guidance", "esd", tmp_path)
    assert mine.read_text() == "years of work"
    assert list(mine.parent.iterdir()) == [mine]


@pytest.mark.parametrize(
    "name", ["My-Method", "my_method", "-a", "a-", "a--b", "", "3d", "../x", "é"]
)
def test_a_name_that_is_not_kebab_case_is_refused(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match=r"is not kebab-case: expected .*'my-method'\.$"):
        noxfile.write_plugin("guidance", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"^no template for the kind 'guide'\. There is: guidance"):
        noxfile.write_plugin("guide", "mine", tmp_path)


def test_pips_find_links_are_told_to_uv_with_commas(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", "wheels  more/wheels")
    assert noxfile.find_links.__wrapped__() == "wheels,more/wheels"
