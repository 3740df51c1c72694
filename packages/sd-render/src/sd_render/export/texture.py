"""The volume's colours on a picture that is wrapped round the mesh."""

import numpy as np
import torch
from jaxtyping import UInt8

from sd_render.export.surface_colour import surface_colours
from sd_render.export.texels import covered_texels, spread
from sd_render.export.triangle_mesh import Vertices
from sd_render.export.unwrapping import Unwrapped
from sd_render.field import AbstractField

Texture = UInt8[np.ndarray, "size size 3"]


def baked_texture(field: AbstractField, mesh: Unwrapped, cell: float, size: int) -> Texture:
    """Each texel as somebody sees it who looks straight at it, and the gutters filled."""
    texels = covered_texels(mesh.uv, mesh.faces, size)
    positions = texels.interpolate(mesh.vertices, mesh.faces)
    normals = texels.interpolate(mesh.normals, mesh.faces)
    colours = seen_from_outside(field, positions, normals, cell)
    picture = np.zeros((size, size, 3), dtype=np.uint8)
    covered = np.zeros((size, size), dtype=bool)
    picture[texels.rows, texels.columns] = colours
    covered[texels.rows, texels.columns] = True
    return spread(picture, covered) if covered.any() else picture


def seen_from_outside(
    field: AbstractField, positions: Vertices, normals: Vertices, cell: float
) -> UInt8[np.ndarray, "vertices 3"]:
    """Surface colours as bytes; `normals` may have any length above 0."""
    towards = torch.nn.functional.normalize(torch.from_numpy(normals).float(), dim=1)
    colours = surface_colours(field, torch.from_numpy(positions).float(), towards, cell)
    return (colours.clamp(0, 1) * 255).round().byte().numpy()
