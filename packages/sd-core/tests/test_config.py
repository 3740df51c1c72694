from typing import Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from sd_core.config import Options, option, parse_options
from sd_core.errors import ConfigError


class Inner(Options):
    rate: float = option(0.5, "A rate.", symbol="η", gt=0, le=1)


class Outer(Options):
    count: int = option(1, "A count.", ge=0, lt=10)
    name: str = option("x", "A name.", min_length=1)
    kind: Literal["one", "two"] = option("one", "A kind.")
    pair: tuple[float, float] = option((0.0, 1.0), "A pair.")
    inner: Inner = option(Inner(), "A table.")
    maybe: Inner | None = option(None, "A table or nothing.")
    several: tuple[Inner, ...] = option((Inner(),), "Tables.", min_length=1)
    table: dict[str, int] = Field(default_factory=dict, description="A free table.")

    @model_validator(mode="after")
    def _not_nine(self):
        if self.count == 9:
            raise ValueError("count = 9 is one too many.")
        return self


def mistake(values, where="outer", kind=Outer) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_options(kind, values, where=where)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_defaults_fill_what_is_left_out():
    assert parse_options(Outer, {}, where="") == Outer()
    assert parse_options(Outer, {"inner": {"rate": 0.25}}, where="").inner.rate == 0.25


def test_options_are_made_of_no_other_methods_unless_they_say_so():
    assert Outer().made_of() == {}
    assert Inner().resolved({}) == {"rate": 0.5}


def test_options_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Outer().count = 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"cuont": 2},
            "unknown key 'cuont' in outer. Known keys: count, inner, kind, maybe, name, pair, "
            "several, table. Did you mean 'count'?",
        ),
        (
            {"inner": {"rates": 2}},
            "unknown key 'rates' in outer.inner. Known keys: rate. Did you mean 'rate'?",
        ),
        (
            {"maybe": {"rates": 2}},
            "unknown key 'rates' in outer.maybe. Known keys: rate. Did you mean 'rate'?",
        ),
        (
            {"several": [{}, {"zzz": 2}]},
            "unknown key 'zzz' in outer.several.1. Known keys: rate.",
        ),
        (
            {"count": "many"},
            "outer.count is 'many', but it should be a valid integer, unable to parse string as "
            "an integer.",
        ),
        ({"count": -1}, "outer.count is -1, but it should be greater than or equal to 0."),
        ({"count": 10}, "outer.count is 10, but it should be less than 10."),
        ({"inner": {"rate": 0}}, "outer.inner.rate is 0, but it should be greater than 0."),
        (
            {"inner": {"rate": 2}},
            "outer.inner.rate is 2, but it should be less than or equal to 1.",
        ),
        (
            {"inner": {"rate": float("nan")}},
            "outer.inner.rate is nan, but it should be a finite number.",
        ),
        (
            {"inner": {"rate": float("inf")}},
            "outer.inner.rate is inf, but it should be a finite number.",
        ),
        ({"name": ""}, "outer.name is '', but it should have at least 1 character."),
        ({"name": 5}, "outer.name is 5, but it should be a valid string."),
        ({"kind": "three"}, "outer.kind is 'three', but it should be 'one' or 'two'."),
        ({"pair": 3}, "outer.pair is 3, but it should be a list."),
        ({"pair": [3]}, "outer.pair.1 is missing. Add it: it has no default."),
        ({"inner": 3}, "outer.inner is 3, but it should be a table."),
        ({"table": 3}, "outer.table is 3, but it should be a table."),
        ({"several": 3}, "outer.several is 3, but it should be a list."),
        (
            {"several": []},
            "outer.several is [], but it should have at least 1 item after validation, not 0.",
        ),
        ({"count": 9}, "outer: count = 9 is one too many."),
        (
            {"count": "x" * 100},
            f"outer.count is '{'x' * 56}..., but it should be a valid integer, unable to parse "
            "string as an integer.",
        ),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_with_place_value_and_expectation(values, message):
    assert mistake(values) == message


def test_a_mistake_at_the_root_needs_no_path():
    assert mistake({"count": -1}, where="").startswith("count is -1, but it should be ")
    assert mistake({"count": 9}, where="") == "the experiment: count = 9 is one too many."
    assert mistake({"zzz": 1}, where="").startswith("unknown key 'zzz' in the experiment. Known")


def test_a_missing_value_is_named():
    class Needy(Options):
        text: str = option(..., "A text.")

    assert mistake({}, kind=Needy) == "outer.text is missing. Add it: it has no default."


def test_a_default_must_pass_its_own_bounds():
    class Wrong(Options):
        rate: float = option(2.0, "A rate.", le=1)

    assert mistake({}, kind=Wrong) == (
        "outer.rate is 2.0, but it should be less than or equal to 1."
    )


def test_description_symbol_and_bounds_reach_the_schema():
    assert Inner.model_json_schema()["properties"]["rate"] == {
        "title": "Rate",
        "type": "number",
        "default": 0.5,
        "description": "A rate.",
        "symbol": "η",
        "exclusiveMinimum": 0,
        "maximum": 1,
    }


def test_an_option_is_changed_by_its_value_however_it_was_told() -> None:
    class Sized(Options):
        size: int = option(3, "Of something.")

    assert not Sized().is_changed("size")
    assert not Sized(size=3).is_changed("size")
    assert Sized(size=4).is_changed("size")
