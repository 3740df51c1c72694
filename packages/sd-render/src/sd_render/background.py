"""What a ray sees where the scene lets it through."""

from abc import ABC, abstractmethod
from math import sqrt
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor, nn

from sd_core.config import Options, option
from sd_render.field import Colours, Points
from sd_render.spherical_harmonics import spherical_harmonics

_DEGREE = 3
_WIDTH = 16  # of the hidden layers; and there are as many harmonics up to degree 3

_Unit = Annotated[float, Field(ge=0, le=1)]


class BackgroundOptions(Options):
    """What is behind the object."""

    kind: Literal["solid", "neural"] = option(
        "solid", "One colour, or a colour learned for each direction."
    )
    colour: tuple[_Unit, _Unit, _Unit] = option(
        (1.0, 1.0, 1.0), "Red, green and blue in [0, 1] of the solid background."
    )
    random_share: float = option(
        0.0,
        "Share of steps in which each picture has a random colour behind it "
        "(threestudio's random_aug: 0.5).",
        ge=0.0,
        le=1.0,
    )


class AbstractBackground(nn.Module, ABC):
    """A colour for every direction."""

    @abstractmethod
    def forward(self, directions: Points) -> Colours:
        """Colours in [0, 1] in the unit directions of rays."""


class SolidBackground(AbstractBackground):
    """One colour all around, not learned."""

    def __init__(self, colour: tuple[float, float, float], device: torch.device) -> None:
        super().__init__()
        self.colour: Tensor
        fixed = torch.tensor(colour, device=device)
        self.register_buffer("colour", fixed, persistent=False)

    def forward(self, directions: Points) -> Colours:
        return self.colour.to(directions.dtype).expand(len(directions), 3)


class NeuralBackground(AbstractBackground):
    """c = sigmoid(W₃·relu(W₂·relu(W₁·Y(d)))), Y the 16 spherical harmonics up to degree 3.

    threestudio's neural environment map: layers of 16, without biases (Y's first column is
    constant). W ~ U(±1/√16) from the generator alone.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _layer(_WIDTH, generator),
            nn.ReLU(),
            _layer(_WIDTH, generator),
            nn.ReLU(),
            _layer(3, generator),
            nn.Sigmoid(),
        )

    def forward(self, directions: Points) -> Colours:
        colours: Tensor = self.layers(spherical_harmonics(directions, _DEGREE))
        return colours


def build_background(options: BackgroundOptions, generator: Generator) -> AbstractBackground:
    """The background of that kind, on the generator's device. Only the neural one draws."""
    if options.kind == "neural":
        return NeuralBackground(generator)
    return SolidBackground(options.colour, generator.device)


def random_colours(count: int, generator: Generator) -> Float[Tensor, "count 3"]:
    """Colours uniform in [0, 1)³, one for each picture."""
    return torch.rand(count, 3, generator=generator, device=generator.device)


def _layer(width: int, generator: Generator) -> nn.Linear:
    """A layer on 16 inputs, uniform in ±1/√16 (torch's default law). It leaves torch.rand alone."""
    layer = nn.Linear(_WIDTH, width, bias=False, device="meta").to_empty(device=generator.device)
    nn.init.uniform_(layer.weight, -1 / sqrt(_WIDTH), 1 / sqrt(_WIDTH), generator=generator)
    return layer
