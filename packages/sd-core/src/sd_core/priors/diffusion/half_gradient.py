"""The gradient through a network that computes in float16, where small numbers soon become 0."""

from collections.abc import Callable

import torch
from torch import Tensor

# 2^120 and its inverse are numbers of float32, and so is a float16 times either.
_LARGEST_EXPONENT = 120


def differentiable_in_half(
    compute: Callable[[Tensor], Tensor], given: Tensor, dtype: torch.dtype
) -> Tensor:
    """compute(given), samples first in both; `given` and the result are in float32.

    Backwards, each sample's gradient comes in multiplied by the power of two that makes its largest
    number about 1, and goes out divided by it: no bit is lost, and its size does not matter. Right
    for the gradient with respect to `given` alone: parameters inside would see the larger one.
    """
    if dtype != torch.float16 or not (torch.is_grad_enabled() and given.requires_grad):
        return compute(given)
    factor: list[Tensor] = []

    def enlarge(gradient: Tensor) -> Tensor:
        factor[:] = [_to_about_one(gradient)]
        return gradient * factor[0]

    def reduce(gradient: Tensor) -> Tensor:
        return gradient / factor[0]

    entered = given.view_as(given)
    entered.register_hook(reduce)  # type: ignore[no-untyped-call]
    left = compute(entered)
    left.register_hook(enlarge)  # type: ignore[no-untyped-call]
    return left


def _to_about_one(gradient: Tensor) -> Tensor:
    """For each sample the power of two that brings its largest number to [½, 1)."""
    largest = gradient.abs().flatten(1).amax(dim=1)
    exponent = torch.frexp(largest).exponent.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    factors = torch.ldexp(torch.ones_like(largest), -exponent)
    return factors.view(-1, *[1] * (gradient.ndim - 1))
