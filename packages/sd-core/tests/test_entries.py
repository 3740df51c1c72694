"""An entry is refused where it is malformed, and loads its code on first use."""

import importlib
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import jaxtyping
import pytest

from sd_core.entries import (
    CommandEntry,
    Entry,
    GuidanceEntry,
    MetricEntry,
    PriorEntry,
    RendererEntry,
)
from sd_core.errors import PluginError

ESD = GuidanceEntry(
    name="esd",
    summary="Entropic Score Distillation",
    reference="arXiv:2404.00000",
    config="pretend_esd.method:Options",
    build="pretend_esd.method:Method",
)
HINT = "Write 'my_package.my_module:MyName': listing plugins must not import the code."


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package `pretend_esd`; gives what writes its module `method`."""
    (tmp_path / "pretend_esd").mkdir()
    (tmp_path / "pretend_esd" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(code: str) -> None:
        (tmp_path / "pretend_esd" / "method.py").write_text(code)
        importlib.invalidate_caches()

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "pretend_esd"]:
        del sys.modules[name]


def test_each_kind_has_its_name():
    entries = (GuidanceEntry, RendererEntry, MetricEntry, PriorEntry, CommandEntry)
    kinds = [entry.kind for entry in entries]
    assert kinds == ["guidance", "renderer", "metric", "prior", "command"]


def test_an_entry_does_not_change():
    with pytest.raises(FrozenInstanceError):
        ESD.name = "other"


@pytest.mark.parametrize("name", ["a", "esd", "esd-2", "2-stage-bridge"])
def test_kebab_case_names_are_accepted(name):
    assert replace(ESD, name=name).name == name


@pytest.mark.parametrize(
    "name, better",
    [
        ("ESD", "esd"),
        ("my_esd", "my-esd"),
        ("my--esd", "my-esd"),
        ("-esd", "esd"),
        ("esd-", "esd"),
        ("esd\n", "esd"),
        ("ε", "my-name"),
        ("", "my-name"),
    ],
)
def test_another_name_is_refused_with_a_better_one(name, better):
    with pytest.raises(PluginError) as caught:
        replace(ESD, name=name)
    assert str(caught.value) == (
        f"guidance name {name!r} is malformed: expected lower-case letters and digits joined by "
        f"single hyphens. Name it '{better}'."
    )


@pytest.mark.parametrize("summary", ["", "  \n"])
def test_an_empty_summary_is_refused(summary):
    with pytest.raises(PluginError) as caught:
        replace(ESD, summary=summary)
    assert str(caught.value) == (
        "guidance 'esd' has an empty summary, expected one line that tells it from the others. "
        "Write one."
    )


@pytest.mark.parametrize("field", ["config", "build"])
@pytest.mark.parametrize(
    "string", ["", "a.b", "a.b:", ":B", "a.b:C.d", "a..b:C", "a-b:C", "a:B ", "a:1"]
)
def test_a_malformed_import_string_is_refused(field, string):
    with pytest.raises(PluginError) as caught:
        replace(ESD, **{field: string})
    assert str(caught.value) == (
        f"guidance 'esd': {field} is {string!r}, expected the form 'package.module:Name'. {HINT}"
    )


@pytest.fixture
def as_a_user():
    """Without the shape checks of the tests: they would refuse a wrong type before the code."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def test_a_class_in_place_of_its_import_string_is_refused(as_a_user):
    with pytest.raises(PluginError) as caught:
        replace(ESD, build=Entry)
    assert str(caught.value) == (
        "guidance 'esd': build is <class 'sd_core.entries.Entry'>, expected a string. " + HINT
    )


def test_what_is_not_a_string_is_refused(as_a_user):
    with pytest.raises(PluginError) as caught:
        replace(ESD, reference=None)
    assert str(caught.value) == "guidance 'esd': reference is None, expected a string."


def test_options_and_code_are_loaded_on_first_use(package):
    package("class Options: pass\nclass Method: pass\n")
    assert "pretend_esd" not in sys.modules
    assert ESD.load_config().__name__ == "Options"
    assert ESD.load_build() is sys.modules["pretend_esd.method"].Method


def why(entry: Entry = ESD) -> str:
    with pytest.raises(PluginError) as caught:
        entry.load_build()
    assert caught.value.__cause__ is not None
    return str(caught.value).removeprefix(f"guidance 'esd' cannot load '{entry.build}': ")


def test_a_missing_name_gets_the_nearest(package):
    package("class Methods: pass")
    assert why() == (
        "the module has no 'Method'. Did you mean 'Methods'? Correct the string in the plugin."
    )


@pytest.mark.parametrize("module", ["pretend_esd.nowhere", "pretend_esd.method.nowhere"])
def test_a_missing_module_of_its_own_is_a_wrong_string(package, module):
    package("")
    assert why(replace(ESD, build=f"{module}:Method")) == (
        f"there is no module '{module}'. Correct the string, or reinstall the plugin."
    )


@pytest.mark.parametrize("module", ["nowhere_to_be_found", "nowhere_to_be_found.models"])
def test_a_missing_module_of_others_is_named_with_the_remedy(package, module):
    package(f"import {module}")
    assert why() == (
        "it needs the module 'nowhere_to_be_found', which is not installed. "
        "Install the package that provides it, often: pip install nowhere_to_be_found"
    )


def test_an_installed_package_of_another_version_is_told_apart(package):
    package("import json.schemas")
    assert why() == (
        "it needs the module 'json.schemas', which the installed 'json' does not have. "
        "Install the version of 'json' that the plugin asks for."
    )


def test_a_name_that_a_package_no_longer_has_is_told_as_it_is(package):
    package("from json import nothing")
    cause = f"cannot import name 'nothing' from 'json' ({sys.modules['json'].__file__})"
    assert why() == f"ImportError: {cause}. Update or repair the plugin."


def test_an_attribute_error_inside_the_module_is_told_as_it_is(package):
    package("import json\njson.Method")
    cause = "module 'json' has no attribute 'Method'"
    assert why() == f"AttributeError: {cause}. Update or repair the plugin."


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("raise OSError('libcudart.so.12: cannot open')", "OSError: libcudart.so.12: cannot open"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise ValueError('two\\n   lines.')", "ValueError: two lines"),
        ("def broken(:", "SyntaxError: invalid syntax (method.py, line 1)"),
        ("raise AssertionError", "AssertionError"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
    ],
)
def test_any_error_of_the_code_is_told_in_one_line(package, code, cause):
    package(code)
    assert why() == f"{cause}. Update or repair the plugin."


def test_the_options_are_named_as_the_code_is(package):
    package("raise OSError('libGL.so.1')")
    with pytest.raises(PluginError) as caught:
        ESD.load_config()
    assert str(caught.value) == (
        "guidance 'esd' cannot load 'pretend_esd.method:Options': OSError: libGL.so.1. "
        "Update or repair the plugin."
    )


def test_an_error_with_a_remedy_of_its_own_is_told_as_it_is(package):
    package("from sd_core.errors import ConfigError\nraise ConfigError('no model. Fetch it.')")
    assert why() == "no model. Fetch it."


def test_control_c_while_the_code_is_imported_stops_the_program(package):
    package("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        ESD.load_build()


def test_the_front_door_imports_nothing_heavy():
    script = (
        "import sys, sd_core, sd_core.hookspecs, sd_core.entries, sd_core.plugins;"
        "print(*({'torch', 'pydantic', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""
