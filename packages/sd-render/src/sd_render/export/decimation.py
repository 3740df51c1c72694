"""A lighter mesh of nearly the same shape."""

import numpy as np

from sd_render.export.triangle_mesh import TriangleMesh

# With fewer asked for, everything may collapse into nothing.
LEAST_FACES = 100


def decimated(mesh: TriangleMesh, most_faces: int | None) -> TriangleMesh:
    """At most `most_faces` triangles, by collapsing the edges that change the shape least.

    Garland and Heckbert's quadrics (1997): a closed mesh stays closed. None or 0 leaves the mesh
    as it is. More are left where there are very many parts.
    """
    if not most_faces or len(mesh.faces) <= max(most_faces, LEAST_FACES):
        return mesh
    import fast_simplification  # type: ignore[import-untyped]

    vertices, faces = fast_simplification.simplify(
        mesh.vertices, mesh.faces.astype(np.int32), target_count=max(most_faces, LEAST_FACES)
    )
    return TriangleMesh(vertices, faces.astype(np.int64))
