"""Options that change with the step: what may be written, what it means, how mistakes read."""

import json
from typing import Any

import numpy as np
import pytest

from sd_core.config import Options, option, parse_options
from sd_core.errors import ConfigError
from sd_render.schedules import Ramp, Stepwise, ramp, stepwise


class Scheduled(Options):
    size: Stepwise = option(64, "Pixels.")
    weight: Ramp = option(0.0, "Weight.")


def scheduled(**values: Any) -> Scheduled:
    return parse_options(Scheduled, values, where="stages.0.renderer")


def complaint(**values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        scheduled(**values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bare_number_holds_at_every_step() -> None:
    options = scheduled(size=32, weight=2.5)
    assert {stepwise(options.size, step) for step in (0, 1, 10**6)} == {32}
    assert {ramp(options.weight, step) for step in (0, 1, 10**6)} == {2.5}


def test_a_stepwise_jumps_at_its_steps() -> None:
    size = scheduled(size=[[0, 64], [5000, 256], [7000, 128]]).size
    steps = [0, 1, 4999, 5000, 6999, 7000, 10**6]
    assert [stepwise(size, step) for step in steps] == [64, 64, 64, 256, 256, 128, 128]


def test_a_ramp_is_numpy_s_interpolation() -> None:
    steps, values = [3, 10, 50, 51], [10.0, 10.0, 1000.0, 0.0]
    weight = scheduled(weight=list(zip(steps, values, strict=True))).weight
    every = range(60)
    assert np.allclose([ramp(weight, step) for step in every], np.interp(every, steps, values))


def test_a_ramp_is_constant_outside_its_pairs() -> None:
    weight = scheduled(weight=[[100, 1], [200, 3]]).weight
    steps = [0, 99, 100, 150, 200, 201, 10**6]
    assert [ramp(weight, step) for step in steps] == [1, 1, 1, 2, 3, 3, 3]


def test_threestudio_s_jump_is_two_pairs() -> None:
    weight = scheduled(weight=[[5000, 0.98], [5001, 0.5]]).weight
    assert [ramp(weight, step) for step in (0, 5000, 5001, 9000)] == [0.98, 0.98, 0.5, 0.5]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"size": 128, "weight": 10},
        {"size": 128.0, "weight": 10.5},
        {"size": [[0, 64]], "weight": [[7, 1]]},
        {"size": ((0, 64), (5000, 256)), "weight": [[0, 10], (1000, 10), [5000, 1000.5]]},
        {"size": [[0.0, 64.0]], "weight": [[0.0, 1]]},
    ],
)
def test_what_is_written_as_json_reads_back_the_same(values: dict[str, Any]) -> None:
    options = scheduled(**values)
    dumped = options.model_dump(mode="json")
    again = Scheduled.model_validate(json.loads(json.dumps(dumped)))
    assert again == options
    assert json.dumps(again.model_dump(mode="json")) == json.dumps(dumped)
    assert repr(again) == repr(options)  # 10 and 10.0 are equal, but not the same


def test_pairs_are_stored_as_tuples_of_int_and_number() -> None:
    options = scheduled(size=[[0, 64], [10, 128]], weight=[[0, 1], [10, 2]])
    assert repr(options.size) == "((0, 64), (10, 128))"
    assert repr(options.weight) == "((0, 1.0), (10, 2.0))"
    assert repr(scheduled(weight=10).weight) == "10.0"


AT_SIZE = "stages.0.renderer.size: "
A_COUNT = "should be a whole number of at least 1, such as 64"
NO_PAIR = "is not a pair: write one number, or a list of [step, value] pairs"


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (0, f"the value 0 {A_COUNT}"),
        (64.5, f"the value 64.5 {A_COUNT}"),
        ("64", f"the value '64' {A_COUNT}"),
        (True, f"the value True {A_COUNT}"),
        (None, f"the value None {A_COUNT}"),
        (float("inf"), f"the value inf {A_COUNT}"),
        ({"a": 1}, f"the value {{'a': 1}} {A_COUNT}"),
        ([[0, 64], [10, -1]], f"the value -1 {A_COUNT}"),
        ([[0, [64]]], f"the value [64] {A_COUNT}"),
        ([], "the list is empty: write one number, or a list of [step, value] pairs"),
        ([64, 128], f"64 {NO_PAIR}"),
        ([[0, 64], [5000]], f"[5000] {NO_PAIR}"),
        ([[0, 64, 5000]], f"[0, 64, 5000] {NO_PAIR}"),
        (["ab"], f"'ab' {NO_PAIR}"),
        (
            [[-1, 64]],
            "the step -1 should be a whole number of at least 0: write [step, value]",
        ),
        (
            [[0.5, 64]],
            "the step 0.5 should be a whole number of at least 0: write [step, value]",
        ),
        (
            [[0, 64], [20, 1], [10, 2]],
            "step 10 comes after step 20: sort the pairs by step, each step once",
        ),
        (
            [[0, 64], [0, 65]],
            "step 0 comes after step 0: sort the pairs by step, each step once",
        ),
        (
            [[100, 64], [200, 128]],
            "the first step is 100, so the steps before it have no value: begin with [0, 64]",
        ),
    ],
)
def test_a_mistake_in_a_stepwise_is_one_line(size: Any, reason: str) -> None:
    assert complaint(size=size) == AT_SIZE + reason


@pytest.mark.parametrize("value", [-0.1, "10", False, None, float("nan"), float("inf")])
def test_a_mistake_in_a_ramp_is_one_line(value: Any) -> None:
    reason = f"the value {value!r} should be a number of at least 0, such as 10.0"
    assert complaint(weight=value) == "stages.0.renderer.weight: " + reason
    assert complaint(weight=[[0, value]]) == "stages.0.renderer.weight: " + reason


def test_the_json_schema_has_a_number_and_a_list() -> None:
    properties = Scheduled.model_json_schema()["properties"]
    number, pairs = properties["size"]["anyOf"]
    assert number == {"type": "integer", "minimum": 1}
    assert pairs["type"] == "array"
    assert properties["weight"]["anyOf"][0] == {"type": "number", "minimum": 0}


def test_a_default_is_checked_too() -> None:
    class Wrong(Options):
        size: Stepwise = option(((5, 64),), "Pixels.")

    with pytest.raises(ValueError, match="the first step is 5"):
        Wrong()
