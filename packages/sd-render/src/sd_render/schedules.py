"""Options that change during a run: one number, or pairs of a step and the value from there on.

A `Stepwise` jumps, such as the size of the pictures: 64, or [[0, 64], [5000, 256]]. A `Ramp` moves
in straight lines, such as a weight: 10.0, or [[0, 10], [1000, 10], [5000, 1000]]. threestudio's
jump [5000, .98, .5, 5001] is the ramp [[5000, 0.98], [5001, 0.5]].
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field

from sd_core.config import shown

Number = TypeVar("Number", int, float)


_TOO_LARGE = 10**18  # an integer may have more digits than a float can hold


def _count(value: Any) -> int:
    """A whole number of at least 1; 64.0 is one."""
    if not _is_number(value) or value != int(value) or value < 1:
        raise ValueError(
            f"the value {shown(value)} should be a whole number of at least 1, such as 64"
        )
    return int(value)


def _amount(value: Any) -> float:
    """A number of at least 0, as a float, which is how JSON gives it back."""
    if not _is_number(value) or value < 0:
        raise ValueError(f"the value {shown(value)} should be a number of at least 0, such as 10.0")
    return float(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < math.inf and abs(value) < _TOO_LARGE


def _step(value: Any) -> int:
    if not _is_number(value) or value != int(value) or value < 0:
        raise ValueError(
            f"the step {shown(value)} should be a whole number of at least 0: write [step, value]"
        )
    return int(value)


def _pairs(given: Any, number: Callable[[Any], Number]) -> tuple[tuple[int, Number], ...]:
    """Pairs as a user wrote them, with steps that increase."""
    if not given:
        raise ValueError("the list is empty: write one number, or a list of [step, value] pairs")
    for pair in given:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(
                f"{shown(pair)} is not a pair: write one number, or a list of [step, value] pairs"
            )
    pairs = tuple((_step(step), number(value)) for step, value in given)
    for (before, _), (after, _) in pairwise(pairs):
        if after <= before:
            raise ValueError(
                f"step {after} comes after step {before}: sort the pairs by step, each step once"
            )
    return pairs


def _checked_stepwise(given: Any) -> Any:
    if not isinstance(given, list | tuple):
        return _count(given)
    pairs = _pairs(given, _count)
    if pairs[0][0] != 0:
        step, value = pairs[0]
        raise ValueError(
            f"the first step is {step}, so the steps before it have no value: "
            f"begin with [0, {value}]"
        )
    return pairs


def _checked_ramp(given: Any) -> Any:
    return _pairs(given, _amount) if isinstance(given, list | tuple) else _amount(given)


_Step = Annotated[int, Field(ge=0)]
_Count = Annotated[int, Field(ge=1)]
_Amount = Annotated[float, Field(ge=0)]

# Field types for `Options`. They are checked before pydantic's own union, which would give one
# complaint for each of its sides.
Stepwise = Annotated[_Count | tuple[tuple[_Step, _Count], ...], BeforeValidator(_checked_stepwise)]
Ramp = Annotated[_Amount | tuple[tuple[_Step, _Amount], ...], BeforeValidator(_checked_ramp)]


def stepwise(schedule: Stepwise, step: int) -> int:
    """The value of the last pair whose step is at most `step`."""
    if isinstance(schedule, int):
        return schedule
    starts = [start for start, _ in schedule]
    return schedule[bisect_right(starts, step) - 1][1]


def ramp(schedule: Ramp, step: int) -> float:
    """v_k + (v_{k+1} - v_k)·(s - s_k)/(s_{k+1} - s_k) for the pairs (s_k, v_k) around step s.

    Constant before the first pair and after the last.
    """
    if isinstance(schedule, float):
        return schedule
    after = bisect_right([start for start, _ in schedule], step)
    if after in (0, len(schedule)):
        return schedule[min(after, len(schedule) - 1)][1]
    (start, low), (end, high) = schedule[after - 1], schedule[after]
    return low + (high - low) * (step - start) / (end - start)
