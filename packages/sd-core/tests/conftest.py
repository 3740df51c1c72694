"""Fixtures of the command line, and tiny Stable Diffusion models."""

import pytest

from sd_core import plugins as plugins_module
from sd_core.cli import main
from small_runs import load_with_fakes

LINE = "score-distill: "


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Each test works in a folder of its own, with the built-in plugins and the fake one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins_module, "load_plugins", load_with_fakes)
    return tmp_path


@pytest.fixture
def cli(capsys):
    """Runs a command that works and gives its output."""

    def call(*arguments) -> str:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return call


@pytest.fixture
def refused(capsys):
    """Runs a command that is refused, and gives its one line."""

    def call(*arguments) -> str:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 2
        assert err.startswith(LINE) and err.endswith("\n") and err.count("\n") == 1
        assert "Traceback" not in out + err
        return err.removeprefix(LINE).removesuffix("\n")

    return call


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A tiny model of each family, to read and not to change."""
    from sd_core.testing.tiny_pipelines import FAMILIES, save_tiny_pipeline  # needs diffusers

    root = tmp_path_factory.mktemp("models")
    return {family: save_tiny_pipeline(root / family, family) for family in FAMILIES}
