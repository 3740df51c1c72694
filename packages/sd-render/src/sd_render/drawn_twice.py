"""Drawing that keeps no samples: once to see, and once more for the gradient."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sd_render.ray_colours import RayMaps

_Values = tuple[Tensor | None, ...]
_NAMES = tuple(field.name for field in fields(RayMaps))


def drawn_twice(draw: Callable[[], RayMaps], inputs: Iterable[Tensor]) -> RayMaps:
    """`draw()`, whose graph is built when its gradient is asked for, and only then.

    `inputs` are all tensors that the gradient is to reach. Differentiable once.

    Not torch.utils.checkpoint: without reentry it records while it draws, so that the slope in an
    analytic normal, which is a backward pass within the drawing, draws the part once more and holds
    all of it until the end; with reentry it knows no torch.autograd.grad.
    """
    learned = [each for each in inputs if each.requires_grad]
    return RayMaps(*_DrawnTwice.apply(lambda: _values(draw()), *learned))  # type: ignore[no-untyped-call]


def _values(maps: RayMaps) -> _Values:
    return tuple(getattr(maps, name) for name in _NAMES)


class _DrawnTwice(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, draw: Callable[[], _Values], *learned: Tensor) -> _Values:
        context.draw = draw
        context.save_for_backward(*learned)
        context.set_materialize_grads(False)  # what no loss asks for is not differentiated
        return draw()

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor | None) -> _Values:
        learned = context.saved_tensors
        with torch.enable_grad():
            values = context.draw()
        asked = [
            (value, gradient)
            for value, gradient in zip(values, gradients, strict=True)
            if gradient is not None and value.requires_grad
        ]
        if not asked:
            return None, *(None for _ in learned)
        outputs, given = zip(*asked, strict=True)
        return None, *torch.autograd.grad(outputs, learned, given, allow_unused=True)
