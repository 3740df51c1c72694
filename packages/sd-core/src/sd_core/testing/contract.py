"""What all contracts share."""

from typing import Any

import torch
from torch import Tensor

from sd_core.step import Step

# No other dimension of the worlds used here is 5, so a draw with 5 rows is one row a sample.
BATCH = 5
STEP, LATE_STEP = Step(3, 20), Step(17, 20)

_HERE = __name__.rpartition(".")[0] + "."


class Contract:
    """What all contracts share: they say when a promise was quietly taken out."""

    def test_the_contract_is_whole(self) -> None:
        weakened = weakened_promises(type(self))
        assert not weakened, (
            f"{type(self).__name__} overrides {', '.join(weakened)}. Remove the override, or mark "
            "it with @pytest.mark.xfail(reason=...)."
        )


def weakened_promises(contract: type) -> list[str]:
    """Tests of a contract that a subclass replaced without an xfail that gives a reason."""
    promises = {
        name
        for base in contract.__mro__
        if base.__module__.startswith(_HERE)
        for name in vars(base)
        if name.startswith("test_")
    }
    weakened = []
    for name in sorted(promises):
        test = getattr(contract, name, None)
        if str(getattr(test, "__module__", "")).startswith(_HERE):
            continue
        marks = getattr(test, "pytestmark", [])
        if not any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks):
            weakened.append(name)
    return weakened


def assert_equal_states(one: Any, other: Any) -> None:
    """Equal nested states, tensors to the bit."""
    assert type(one) is type(other) or (isinstance(one, dict) and isinstance(other, dict))
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal_states(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal_states(left, right)
    else:
        assert one == other
