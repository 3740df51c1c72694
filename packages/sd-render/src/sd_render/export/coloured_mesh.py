"""A mesh that is ready to be written: where, which way, which colour."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from sd_render.export.mesh_options import MeshOptions
from sd_render.export.texture import Texture, baked_texture, seen_from_outside
from sd_render.export.triangle_mesh import Faces, TriangleMesh, Vertices, vertex_normals
from sd_render.export.unwrapping import unwrapped
from sd_render.field import AbstractField


@dataclass(frozen=True, eq=False)
class ColouredMesh:
    """World coordinates, outward unit normals, display (sRGB) colours.

    Either `colours`, one a vertex, or `uv` (u to the right, v up) and `texture` (row 0 on top).
    """

    vertices: Vertices
    normals: Vertices
    faces: Faces
    colours: UInt8[np.ndarray, "vertices 3"] | None = None
    uv: Float[np.ndarray, "vertices 2"] | None = None
    texture: Texture | None = None


def with_vertex_colours(field: AbstractField, mesh: TriangleMesh, cell: float) -> ColouredMesh:
    """One colour a vertex, as seen along its normal."""
    normals = vertex_normals(mesh)
    colours = seen_from_outside(field, mesh.vertices, normals, cell)
    return ColouredMesh(mesh.vertices, normals, mesh.faces, colours=colours)


def with_texture(
    field: AbstractField, mesh: TriangleMesh, cell: float, options: MeshOptions
) -> tuple[ColouredMesh, list[str]]:
    """The mesh cut into charts, their picture, and what to tell the user of it."""
    flat = unwrapped(mesh, options.texture_size)
    texture = baked_texture(field, flat, cell, options.texture_size)
    note = f"texture of {options.texture_size} × {options.texture_size}, {flat.charts} charts."
    coloured = ColouredMesh(flat.vertices, flat.normals, flat.faces, uv=flat.uv, texture=texture)
    return coloured, [note]
