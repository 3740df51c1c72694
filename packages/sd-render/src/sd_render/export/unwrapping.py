"""A mesh cut open and laid flat: texture coordinates."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sd_render.export.triangle_mesh import Faces, TriangleMesh, Vertices, vertex_normals

# Texels between charts: what bilinear look-ups and two levels of mip-mapping reach over.
GUTTER = 4


@dataclass(frozen=True, eq=False)
class Unwrapped:
    """A mesh whose vertices are doubled where it was cut, with a place in the texture each.

    `uv` is in [0, 1]: u to the right, v up, from the texture's lower left corner. `normals` are
    those of the uncut mesh.
    """

    vertices: Vertices
    normals: Vertices
    faces: Faces
    uv: Float[np.ndarray, "vertices 2"]
    charts: int


def unwrapped(mesh: TriangleMesh, texture_size: int) -> Unwrapped:
    """Charts by xatlas, packed for a square texture of about `texture_size` texels."""
    import xatlas  # type: ignore[import-not-found]

    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution = texture_size
    packing.padding = GUTTER
    atlas.generate(xatlas.ChartOptions(), packing)
    origins, faces, uv = atlas[0]
    # xatlas scales both axes to [0, 1] of a page that need not be square.
    return Unwrapped(
        vertices=mesh.vertices[origins],
        normals=vertex_normals(mesh)[origins],
        faces=faces.astype(np.int64),
        uv=uv.astype(np.float64),
        charts=atlas.chart_count,
    )
