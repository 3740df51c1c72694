"""What `nox -s new_plugin` writes and refuses; the session `template` builds and tests it."""

import shlex
import tomllib
from pathlib import Path
from types import SimpleNamespace

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


def test_a_word_of_python_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"^'global' is a word of Python"):
        noxfile.write_plugin("guidance", "global", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"^no template for the kind 'guide'\. There is: guidance"):
        noxfile.write_plugin("guide", "mine", tmp_path)


PACKAGES = noxfile.ROOT / "packages"


def test_a_plugin_of_this_repository_is_tried_by_nox():
    command = noxfile.trial(PACKAGES / "sd-guidance-bears", noxfile.ROOT)
    assert command == "nox -s tests -- packages/sd-guidance-bears"


@pytest.mark.parametrize(
    ("folder", "started_in", "command"),
    [
        (
            noxfile.ROOT.parent / "sd-guidance-bears",
            noxfile.ROOT,
            "pip install -e 'packages/sd-core[testing]' -e ../sd-guidance-bears "
            "&& pytest ../sd-guidance-bears",
        ),
        (
            noxfile.ROOT / "docs" / "my bears",
            noxfile.ROOT / "docs",
            "pip install -e '../packages/sd-core[testing]' -e 'my bears' && pytest 'my bears'",
        ),
    ],
)
def test_a_plugin_elsewhere_is_tried_with_the_core_from_here(folder, started_in, command):
    assert noxfile.trial(folder, started_in) == command


def test_new_plugin_prints_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    session = SimpleNamespace(posargs=["guidance", "bears", "there"], invoked_from=str(tmp_path))
    noxfile.new_plugin.func(session)
    told = capsys.readouterr().out.splitlines()
    written = tmp_path / "there" / "sd-guidance-bears"
    assert told == [f"wrote {written}", f"try it: {noxfile.trial(written, tmp_path)}"]
    words = shlex.split(told[1])
    assert (tmp_path / words[5].removesuffix("[testing]") / "pyproject.toml").is_file()
    assert words[6:] == ["-e", "there/sd-guidance-bears", "&&", "pytest", "there/sd-guidance-bears"]


def test_the_demo_makes_measures_and_exports_one_run_with_one_thread():
    runs = []
    session = SimpleNamespace(
        posargs=["--guidance", "vsd"],
        install=lambda *what, env: None,
        run=lambda *command, env=None: runs.append((command, env)),
    )
    noxfile.demo.func(session)
    made, measured, exported = (command[1:] for command, _ in runs)
    assert all(env["OMP_NUM_THREADS"] == "1" for _, env in runs)
    assert made[:3] == ("run", "--prompt", "a red bear")
    assert made[-2:] == ("--guidance", "vsd")
    folder = made[made.index("--output") + 1]
    assert measured == ("evaluate", folder)
    assert exported == ("export", folder, "--to", "glb")


def test_pips_find_links_are_told_to_uv_with_commas(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", "wheels  more/wheels")
    assert noxfile.find_links.__wrapped__() == "wheels,more/wheels"
