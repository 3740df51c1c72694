"""Presets, and tables whose defaults are those of the class that holds them."""

from argparse import Namespace
from types import ModuleType
from typing import ClassVar, Literal

import pytest

from sd_core import hookimpl
from sd_core.commands import describe
from sd_core.config import Options, option, parse_options
from sd_core.entries import GuidanceEntry
from sd_core.errors import ConfigError
from sd_core.plugins import load_plugins
from sd_core.presets import PresetOptions


class Learning(Options):
    rate: float = option(0.1, "A rate.", gt=0)
    dropout: float = option(0.0, "A share.", ge=0)
    tail: tuple[int, ...] = option((1, 2), "A list.")


class Method(PresetOptions):
    presets: ClassVar = {"released": {"scale": 2.0, "learning": {"dropout": 0.1, "tail": (3,)}}}

    preset: Literal["paper", "released"] = option("paper", "Whose values to begin with.")
    scale: float = option(1.0, "A scale.")
    learning: Learning = option(Learning(dropout=0.5), "A table.")


def parsed(**values):
    return parse_options(Method, values, where="guidance")


def test_a_table_that_says_little_begins_with_the_default_of_who_holds_it():
    assert parsed(learning={"rate": 0.2}).learning == Learning(rate=0.2, dropout=0.5)
    assert parsed(learning={"dropout": 0.2}).learning == Learning(dropout=0.2)
    assert parsed(learning=Learning()).learning == Learning()


def test_what_nobody_set_stays_unset():
    assert parsed(learning={"rate": 0.2}).learning.model_fields_set == {"rate", "dropout"}
    assert parse_options(Outer, {"inner": {}}, where="").inner.model_fields_set == set()


class Outer(Options):
    inner: Learning = option(Learning(), "A table.")


def test_a_preset_lies_over_the_defaults_and_under_what_the_user_says():
    assert parsed() == Method(preset="paper", scale=1.0, learning=Learning(dropout=0.5))
    released = parsed(preset="released")
    assert (released.scale, released.learning) == (2.0, Learning(dropout=0.1, tail=(3,)))
    mine = parsed(preset="released", scale=3.0, learning={"rate": 0.2, "tail": [4]})
    assert (mine.scale, mine.learning) == (3.0, Learning(rate=0.2, dropout=0.1, tail=(4,)))


def test_what_is_recorded_gives_the_same_options_again():
    released = parsed(preset="released", learning={"rate": 0.2})
    assert parsed(**released.resolved({})) == released


@pytest.mark.parametrize("name", ["mine", 3, None])
def test_an_unknown_preset_is_refused(name):
    with pytest.raises(
        ConfigError, match=rf"guidance.preset is {name!r}, but it should be 'paper'"
    ):
        parsed(preset=name)


def test_a_table_that_is_none_is_refused_as_ever():
    with pytest.raises(ConfigError, match=r"guidance.learning is 3, but it should be a table"):
        parsed(preset="released", learning=3)


def test_describe_shows_what_a_preset_changes_and_the_defaults_of_who_holds_a_table(capsys):
    entry = GuidanceEntry(
        name="fresh",
        summary="A method",
        reference="nobody",
        config="test_presets:Method",
        build="test_presets:Method",
    )
    plugins = load_plugins(installed=False, extra=[offering(entry)])
    describe.main(Namespace(kind="guidance", name="fresh"), plugins)
    out = capsys.readouterr().out
    assert "\n  learning.dropout  default 0.5, ≥ 0\n" in out
    assert "\n  learning.rate  default 0.1, > 0\n" in out
    assert out.endswith(
        "\npreset 'released' begins with:\n"
        "  learning.dropout = 0.1\n  learning.tail = (3,)\n  scale = 2.0\n"
    )


def offering(entry):
    """A module with a hook that offers this entry."""
    module = ModuleType("offering_a_preset")
    module.sd_guidance_methods = hookimpl(lambda: [entry])
    module.sd_guidance_methods.__name__ = "sd_guidance_methods"
    return module
