"""What rays see of a field at their samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sd_render.compositing import (
    LEAST_OPACITY,
    along_rays,
    depth_variance,
    sample_weights,
)
from sd_render.field import AbstractField
from sd_render.marching import PerSample, Rays, Samples
from sd_render.occupancy import TOLERANCE
from sd_render.regularisers import orientation_of_rays, weight_entropy_of_rays
from sd_render.shading import Shading, lambertian, textureless

PerRay = Float[Tensor, "rays 1"]


@dataclass(frozen=True)
class Look:
    """How finely rays are sampled, how the field is lit, and what is to be known of it besides."""

    samples: int
    shading: Shading
    normals: bool = False
    entropy: bool = False
    depth_variance: bool = False
    seen_only: bool = False  # for pictures alone: what nobody can see has no colour, nor gradient
    ambient: float = 0.1
    diffuse: float = 0.9


@dataclass(frozen=True, eq=False)
class RayBundle:
    """Rays: where the lamp of each stands, where in their pieces its samples lie, and the colour
    behind it where that is not the scene's background."""

    origins: Rays
    directions: Rays
    lights: Rays
    jitter: Float[Tensor, " rays"]
    behind: Rays | None

    def __len__(self) -> int:
        return len(self.origins)

    def split(self, count: int) -> "Iterator[RayBundle]":
        """Up to `count` rays at a time, in order."""
        for first in range(0, len(self), count):
            here = slice(first, first + count)
            yield RayBundle(
                self.origins[here],
                self.directions[here],
                self.lights[here],
                self.jitter[here],
                None if self.behind is None else self.behind[here],
            )


@dataclass(frozen=True, eq=False)
class RayMaps:
    """What each ray saw; `colour` is multiplied by the opacity, normals are of unit length."""

    colour: Float[Tensor, "rays 3"]
    opacity: PerRay
    depth: PerRay
    normals: Float[Tensor, "rays 3"] | None = None
    facing_away: PerRay | None = None
    entropy: PerRay | None = None
    depth_variance: PerRay | None = None

    @staticmethod
    def concatenate(parts: "Sequence[RayMaps]") -> "RayMaps":
        """The rays of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        columns: dict[str, Any] = {}
        for name in (field.name for field in fields(RayMaps)):
            values = [getattr(part, name) for part in parts]
            columns[name] = None if values[0] is None else torch.cat(values)
        return RayMaps(**columns)


def colour_rays(field: AbstractField, samples: Samples, some: RayBundle, look: Look) -> RayMaps:
    """Σ_i w_i c_i and the other sums over the samples of each ray, without what is behind them."""
    count, directions = len(some), some.directions
    points = samples.points(some.origins, directions)
    weights: PerSample | None = None
    if look.seen_only:
        weights = sample_weights(field.density(points), samples.thickness, samples.ray)
        # The samples of a ray, together, lose about TOLERANCE of its opacity at most.
        seen = (weights >= TOLERANCE / look.samples).nonzero()[:, 0]
        samples, points, weights = samples.some(seen), points[seen], weights[seen]
    ray, depth = samples.ray, samples.depth
    # index_select takes a quarter of the time of directions[ray].
    density, colour = field.density_and_colour(points, directions.index_select(0, ray))
    if weights is None:
        weights = sample_weights(density, samples.thickness, ray)
    normals = field.normals(points) if look.normals or look.shading != "albedo" else None
    if normals is not None and look.shading == "lambertian":
        lights = some.lights.index_select(0, ray)
        colour = lambertian(
            colour, normals, points, lights, ambient=look.ambient, diffuse=look.diffuse
        )
    elif normals is not None and look.shading == "textureless":
        lights = some.lights.index_select(0, ray)
        colour = textureless(normals, points, lights, ambient=look.ambient, diffuse=look.diffuse)
    facing = seen_normals = entropy = variance = None
    if normals is not None and look.normals:
        seen_normals = normalize(along_rays(weights, normals, ray, count), dim=-1)
        facing = orientation_of_rays(weights, normals, directions, ray)[:, None]
    if look.entropy:
        entropy = weight_entropy_of_rays(weights, ray, count)[:, None]
    if look.depth_variance:
        variance = depth_variance(weights, depth, ray, count)[:, None]
    # One sum for all: it takes as long for five channels as for three.
    values = torch.cat([colour, torch.ones_like(colour[:, :1]), depth[:, None]], dim=1)
    sums = along_rays(weights, values, ray, count)
    opacity = sums[:, 3:4]
    return RayMaps(
        colour=sums[:, :3],
        opacity=opacity,
        depth=sums[:, 4:] / opacity.clamp_min(LEAST_OPACITY),
        normals=seen_normals,
        facing_away=facing,
        entropy=entropy,
        depth_variance=variance,
    )
