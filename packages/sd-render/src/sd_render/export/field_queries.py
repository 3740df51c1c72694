"""A field asked at many points: in portions that fit into memory, without gradients, on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sd_render.field import AbstractField, Colours, PerPoint, Points

PORTION = 2**16


def densities(field: AbstractField, points: Points) -> PerPoint:
    """The density at points of the cube, which may lie on any device; float32 on the CPU."""
    where = _home(field)
    with torch.no_grad():
        asked = [
            field.density(some.to(where)).float().cpu() for some in torch.split(points, PORTION)
        ]
    return torch.cat(asked) if asked else torch.zeros(0)


def densities_and_colours(
    field: AbstractField, points: Points, directions: Points
) -> tuple[PerPoint, Colours]:
    """Density, and colour as seen by rays of unit `directions`; float32 on the CPU."""
    where = _home(field)
    asked_densities, asked_colours = [torch.zeros(0)], [torch.zeros(0, 3)]
    portions = zip(torch.split(points, PORTION), torch.split(directions, PORTION), strict=True)
    with torch.no_grad():
        for some, along in portions:
            density, colour = field.density_and_colour(some.to(where), along.to(where))
            asked_densities.append(density.float().cpu())
            asked_colours.append(colour.float().cpu())
    return torch.cat(asked_densities), torch.cat(asked_colours)


@contextmanager
def not_training(field: AbstractField) -> Iterator[None]:
    """The field as it is looked at; what it was before comes back."""
    before = field.training
    field.eval()
    try:
        yield
    finally:
        field.train(before)


def _home(field: AbstractField) -> Tensor:
    """A tensor of the field's device, and of its precision unless that is too coarse for places."""
    for own in (*field.parameters(), *field.buffers()):
        if own.is_floating_point():
            return own if own.element_size() >= 4 else own.new_zeros(0, dtype=torch.float32)
    return torch.zeros(0)
