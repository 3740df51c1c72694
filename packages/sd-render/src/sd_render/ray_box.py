"""Where rays enter and leave the cube of the scene."""

import torch
from jaxtyping import Float
from torch import Tensor

Rays = Float[Tensor, "rays 3"]
Distances = Float[Tensor, " rays"]


def ray_box(origins: Rays, directions: Rays, half_extent: float) -> tuple[Distances, Distances]:
    """The distances (near, far) between which o + t·d is in [-h, h]³, 0 ≤ near ≤ far.

    The cube is the meet of three slabs |x_k| ≤ h: t_k± = (±h - o_k)/d_k,
    near = max(0, max_k min(t_k+, t_k-)), far = min_k max(t_k+, t_k-) (Kay and Kajiya, 1986).

    Distances are in lengths of d. A camera inside the cube starts at near = 0. A ray that misses,
    or has the cube behind it, has near = far = 0. Faces belong to the cube: a ray that runs along
    one is inside.
    """
    parallel = directions == 0
    inside = origins.abs() <= half_extent
    slope = torch.where(parallel, 1.0, directions)
    low, high = (-half_extent - origins) / slope, (half_extent - origins) / slope
    # A ray along a slab is in it for ever or never, and 0/0 on its face says neither.
    always, never = parallel & inside, parallel & ~inside
    enter = torch.minimum(low, high).masked_fill(always, -torch.inf)
    leave = torch.maximum(low, high).masked_fill(always, torch.inf).masked_fill(never, -torch.inf)
    near, far = enter.amax(dim=-1).clamp_min(0), leave.amin(dim=-1)
    hit = far > near
    return torch.where(hit, near, 0.0), torch.where(hit, far, 0.0)
