"""Random draws under control: what a method draws for one sample given to another."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_NEW = ("rand", "randn", "randint", "normal", "bernoulli", "multinomial", "poisson")
_IN_PLACE = ("normal_", "uniform_", "bernoulli_", "exponential_", "random_")
_IN_PLACE_DRAWS = {getattr(Tensor, name) for name in _IN_PLACE}
_DRAWS = {getattr(torch, name) for name in _NEW} | _IN_PLACE_DRAWS
KNOWN_DRAWS = ", ".join([*(f"torch.{name}" for name in _NEW), *_IN_PLACE])


class ChangedDraws(TorchFunctionMode):
    """While active, every random draw is `changed` before anybody sees it."""

    def changed(self, drawn: Tensor) -> Tensor:
        """What is given in its place, of the same shape."""
        raise NotImplementedError

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in _DRAWS or not result.ndim:
            return result
        changed = self.changed(result)
        return result.copy_(changed.clone()) if func in _IN_PLACE_DRAWS else changed


class PermutedDraws(ChangedDraws):
    """Draws with a row for each sample come in another order of rows."""

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = list(order)

    def changed(self, drawn: Tensor) -> Tensor:
        return drawn[self.order] if len(drawn) == len(self.order) else drawn


class SameForAll(ChangedDraws):
    """Draws with a row for each of `batch` samples have the first one's row for all."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.seen: list[Tensor] = []

    def changed(self, drawn: Tensor) -> Tensor:
        if len(drawn) != self.batch:
            self.seen.append(drawn.clone())
            return drawn
        self.seen.append(drawn[:1].clone())
        return drawn[:1].expand_as(drawn).clone()


class Again(ChangedDraws):
    """The draws that were seen before, one after the other."""

    def __init__(self, seen: Sequence[Tensor]) -> None:
        super().__init__()
        self.seen = list(seen)

    def changed(self, drawn: Tensor) -> Tensor:
        return self.seen.pop(0) if self.seen and self.seen[0].shape == drawn.shape else drawn
