"""A NeRF on a multi-resolution hash encoding (Instant-NGP), as text-to-3D codes set it up."""

from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import field_validator, model_validator
from torch import Generator, Tensor, nn

from sd_core.config import option
from sd_core.renderer import RendererContext
from sd_core.step import Step
from sd_render.encodings.hash_encoding import HashEncoding
from sd_render.encodings.hash_layout import HashLayout
from sd_render.field import (
    AbstractField,
    Colours,
    PerPoint,
    Points,
    finite_difference_normals,
)
from sd_render.volume import VolumeScene
from sd_render.volume_options import RegulariserOptions, VolumeOptions


class HashGridOptions(VolumeOptions):
    """A hash-grid NeRF; the defaults are threestudio's full size, made for a GPU.

    On a CPU 8 levels and log2_table 17 do well, see docs/scenes.md.
    """

    levels: int = option(16, "Levels of the encoding.", symbol="L", ge=1)
    features: Literal[1, 2, 4, 8] = option(2, "Features of each level.", symbol="F")
    log2_table: int = option(19, "Most entries of a level, as a power of 2.", symbol="T", ge=4)
    base_resolution: int = option(16, "Vertices along a side at the coarsest level.", ge=2)
    growth: float = option(
        1.447269237440378, "Ratio of the resolutions of neighbouring levels.", symbol="b", gt=1
    )
    smooth: bool = option(False, "Smoothstep instead of linear weights within a cell.")
    start_level: int = option(
        16, "Levels in use at the start (threestudio's progressive grids: 8).", ge=1
    )
    level_after: int = option(2000, "The step at which one more level joins.", ge=0)
    level_every: int = option(500, "Steps from there to each next level.", ge=1)
    width: int = option(64, "Of the hidden layers of density and colour (threestudio: 64).", ge=1)
    network_rate: float = option(
        0.1, "Learning rate of the networks, times the encoding's (threestudio's VSD: 0.1).", gt=0
    )
    density_unit: float = option(
        1.0, "As in all volumes; a short run wants 10 (threestudio: 1).", gt=0
    )
    empty_after: float = option(
        0.05, "As in all volumes; coarse levels carry matter into empty cells too.", ge=0, le=1
    )
    encoding: Literal["auto", "tinycudann", "compiled", "eager"] = option(
        "auto", "auto: tinycudann on CUDA where installed, else torch.compile, else plain torch."
    )
    normals: Literal["analytic", "finite-differences"] = option(
        "analytic", "Exact, by differentiating twice through plain torch; or from six neighbours."
    )
    normal_spacing: float = option(0.01, "Of those neighbours, in world units.", gt=0)

    @field_validator("regularisers")
    @classmethod
    def _no_neighbours(cls, given: RegulariserOptions) -> RegulariserOptions:
        if given.total_variation != 0.0:
            raise ValueError("total_variation is for voxels, a hash grid has none: leave it out")
        return given

    @model_validator(mode="after")
    def _all_that_is_told_counts(self) -> "HashGridOptions":
        for name in ("level_after", "level_every") if self.start_level >= self.levels else ():
            if self.is_changed(name):
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but no level joins: all {self.levels} are "
                    f"in use from the start. Set a smaller start_level, or leave {name} out."
                )
        if self.normals == "analytic" and self.is_changed("normal_spacing"):
            raise ValueError(
                f"normal_spacing is {self.normal_spacing}, but analytic normals ask no neighbours. "
                'Leave it out, or set normals = "finite-differences".'
            )
        return self


class HashField(AbstractField):
    """density = unit/h·softplus(f(e(x)) + b(x)) less its fog, colour = sigmoid(g(e(x))).

    e is the hash encoding of (x/h + 1)/2; f and g have one hidden layer of ReLU each, without
    biases; b is the ball it begins as. Ball and fog: see `VolumeOptions`.
    """

    levels_in_use: Tensor

    def __init__(self, config: HashGridOptions, context: RendererContext) -> None:
        super().__init__(config.half_extent)
        self.config = config
        layout = HashLayout(
            levels=config.levels,
            features=config.features,
            log2_table=config.log2_table,
            base_resolution=config.base_resolution,
            growth=config.growth,
            smooth=config.smooth,
        )
        generator = context.generator
        self.encoding = HashEncoding(
            layout, config.encoding, generator=generator, device=context.device
        )
        # Part of the scene's state: levels that never took part are not to be shown.
        in_use = torch.tensor(min(config.start_level, config.levels), device=context.device)
        self.register_buffer("levels_in_use", in_use)
        inputs = config.levels * config.features
        self.density_net = _network((inputs, config.width, 1), generator)
        self.colour_net = _network((inputs, config.width, 3), generator)

    def density(self, points: Points) -> PerPoint:
        return self._density(points, self._features(points))

    def density_and_colour(self, points: Points, directions: Points) -> tuple[PerPoint, Colours]:
        features = self._features(points)
        colours = torch.sigmoid(self.colour_net(features))
        return self._density(points, features), colours

    def density_twice_differentiable(self, points: Points) -> PerPoint:
        self.encoding.enabled_levels = int(self.levels_in_use)
        return self._density(points, self.encoding.forward_twice_differentiable(self._unit(points)))

    def normals(self, points: Points) -> Points:
        if self.config.normals == "finite-differences":
            return finite_difference_normals(self, points, self.config.normal_spacing)
        return super().normals(points)

    def prepare(self, step: Step) -> None:
        """Finer levels join: one at step `level_after`, then one every `level_every` steps."""
        late = step.index - self.config.level_after
        joined = 0 if late < 0 else 1 + late // self.config.level_every
        # Never fewer than before: a stage that goes on with this scene counts from 0 again.
        self.levels_in_use.clamp_(min=min(self.config.start_level + joined, self.config.levels))

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The encoding, and the networks at a share of its rate."""
        networks = [*self.density_net.parameters(), *self.colour_net.parameters()]
        return [
            {"params": list(self.encoding.parameters()), "lr": learning_rate},
            {"params": networks, "lr": self.config.network_rate * learning_rate},
        ]

    def _features(self, points: Points) -> Float[Tensor, "points width"]:
        self.encoding.enabled_levels = int(self.levels_in_use)
        features: Tensor = self.encoding(self._unit(points))
        return features

    def _unit(self, points: Points) -> Points:
        return (points / self.half_extent + 1) / 2

    def _density(self, points: Points, features: Tensor) -> PerPoint:
        return self.config.activated(self.density_net(features)[:, 0] + self.config.blob(points))


class HashGrid(VolumeScene):
    """The scene of a hash-grid NeRF."""

    def __init__(self, config: HashGridOptions, context: RendererContext) -> None:
        super().__init__(HashField(config, context), config, context)


def _network(widths: tuple[int, int, int], generator: Generator) -> nn.Sequential:
    """Two layers with ReLU in between, He-initialised from the generator alone."""
    layers = [
        nn.Linear(width, to, bias=False, device="meta").to_empty(device=generator.device)
        for width, to in pairwise(widths)
    ]
    for layer in layers:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])
