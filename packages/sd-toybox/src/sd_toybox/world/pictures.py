"""Pictures of the world's objects, with a pose that is known."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sd_core.cameras import CameraBatch, rays
from sd_core.shapes import Images
from sd_toybox.world.kinds import body_colour, toy
from sd_toybox.world.paint import painted
from sd_toybox.world.primitives import AbstractSolid, Columns, PerRay
from sd_toybox.world.toys import Toy

SUPERSAMPLING = 2  # rays along each side of a pixel

# A soft light from above that belongs to the world: the shade says how a surface lies, and
# nothing about where the camera stands.
AMBIENT, FROM_ABOVE = 0.8, 0.2


def world_pictures(kind: str, colour: str, cameras: CameraBatch, pixels: int = 64) -> Images:
    """What the cameras see of one object on white; square pictures in [0, 1]."""
    body = cameras.azimuth.new_tensor(body_colour(colour))
    return draw_toy(toy(kind), body.expand(len(cameras), 3), cameras, pixels)


def draw_toy(toy: Toy, body: Float[Tensor, "batch 3"], cameras: CameraBatch, pixels: int) -> Images:
    """The same with a body colour for each camera.

    colour·(0.8 + 0.2·n_z) at the nearest hit, the mean over the rays of a pixel.
    """
    side = SUPERSAMPLING * pixels
    origins, directions = (part.reshape(-1, 3).T.contiguous() for part in rays(cameras, side, side))
    distance, which = nearest_hits([part.solid for part in toy.parts], origins, directions)
    colours = torch.ones_like(directions)
    for index, part in enumerate(toy.parts):
        (mine,) = torch.nonzero(which == index, as_tuple=True)
        points = origins[:, mine] + distance[mine] * directions[:, mine]
        normals = part.solid.normals(points)
        own_body = body[mine // (side * side)].T
        where = part.solid.relative(points)
        paint = painted(part.marks, part.paint, where, normals, own_body)
        colours[:, mine] = paint * (AMBIENT + FROM_ABOVE * normals[2])
    picture = colours.view(3, len(cameras), side, side).transpose(0, 1)
    return avg_pool2d(picture, SUPERSAMPLING)


def nearest_hits(
    solids: list[AbstractSolid], origins: Columns, directions: Columns
) -> tuple[PerRay, Int[Tensor, " rays"]]:
    """How far away each ray first meets a solid, and which; infinity and -1 where it meets none."""
    nearest = torch.full_like(directions[0], torch.inf)
    which = torch.full_like(nearest, -1, dtype=torch.long)
    for index, solid in enumerate(solids):
        (candidates,) = torch.nonzero(_passes_by(solid, origins, directions), as_tuple=True)
        distance = solid.distance(origins[:, candidates], directions[:, candidates])
        closer = distance < nearest[candidates]
        changed = candidates[closer]
        nearest[changed] = distance[closer]
        which[changed] = index
    return nearest, which


def _passes_by(
    solid: AbstractSolid, origins: Columns, directions: Columns
) -> Bool[Tensor, " rays"]:
    """Whether a ray meets the ball around a solid: |o|² - (o·d)² < R², for |d| = 1.

    Most rays miss most solids, and this is cheaper than their own formulas.
    """
    offset = solid.relative(origins)
    along = (offset * directions).sum(0)
    return offset.square().sum(0) - along.square() < 1.01 * solid.reach**2
