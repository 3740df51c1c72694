"""The colour of a lit surface, and the draw of how a step is lit (DreamFusion).

A scene that is sometimes seen as white plaster cannot paint a flat wall to look like a shape.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import normalize

from sd_core.config import Options, option
from sd_render.field import Colours, Points

Shading = Literal["albedo", "lambertian", "textureless"]


class ShadingOptions(Options):
    """How often and how the light shines. By default it never does: colours are what they are."""

    diffuse_share: float = option(
        0.0, "Share of steps with a light; 0 never (DreamFusion: 0.75).", ge=0.0, le=1.0
    )
    textureless_share: float = option(
        0.5, "Share of the lit steps that show white plaster (DreamFusion: 0.5).", ge=0.0, le=1.0
    )
    ambient: float = option(
        0.1, "Light from everywhere (DreamFusion: 0.1).", symbol="a", ge=0.0, le=1.0
    )
    diffuse: float = option(
        0.9, "Light from the lamp (DreamFusion: 0.9).", symbol="d", ge=0.0, le=1.0
    )
    ambient_only_steps: int = option(
        0, "Steps at the start without a lamp (DreamFusion in threestudio: 2000).", ge=0
    )


def choose_shading(step: int, options: ShadingOptions, generator: Generator) -> Shading:
    """The shading of one step, for its whole batch.

    With u, v uniform in [0, 1): albedo where step < ambient_only_steps or u ≥ diffuse_share, else
    textureless where v < textureless_share, else lambertian. Every call draws u and v.
    """
    u, v = torch.rand(2, generator=generator, device=generator.device).tolist()
    if step < options.ambient_only_steps or u >= options.diffuse_share:
        return "albedo"
    return "textureless" if v < options.textureless_share else "lambertian"


def lambertian(
    albedo: Colours,
    normals: Points,
    points: Points,
    light_position: Points,
    *,
    ambient: float = 0.1,
    diffuse: float = 0.9,
) -> Colours:
    """c = ρ·(a + d·max(n·l, 0)), l = (light - x)/‖light - x‖, of a dull surface of albedo ρ.

    DreamFusion. `light_position` says for each point where its lamp stands.
    """
    return albedo * _brightness(normals, points, light_position, ambient=ambient, diffuse=diffuse)


def textureless(
    normals: Points,
    points: Points,
    light_position: Points,
    *,
    ambient: float = 0.1,
    diffuse: float = 0.9,
) -> Colours:
    """c = a + d·max(n·l, 0) in all three channels: `lambertian` on white."""
    grey = _brightness(normals, points, light_position, ambient=ambient, diffuse=diffuse)
    return grey.expand(-1, 3)


def _brightness(
    normals: Points, points: Points, light_position: Points, *, ambient: float, diffuse: float
) -> Float[Tensor, "points 1"]:
    towards_light = normalize(light_position - points, dim=-1)
    facing = (normals * towards_light).sum(dim=-1, keepdim=True).relu()
    return ambient + diffuse * facing
