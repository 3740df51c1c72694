"""A mesh of triangles: its volume, its normals."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Vertices = Float[np.ndarray, "vertices 3"]
Faces = Int[np.ndarray, "faces 3"]


@dataclass(frozen=True, eq=False)
class TriangleMesh:
    """Vertices in world units, and triangles that turn anticlockwise when seen from outside."""

    vertices: Vertices
    faces: Faces

    def corners(self) -> Float[np.ndarray, "faces 3 3"]:
        """The three corners of each triangle."""
        corners: np.ndarray = self.vertices[self.faces]
        return corners

    def used_only(self) -> "TriangleMesh":
        """Without the vertices that no triangle has."""
        used, index = np.unique(self.faces, return_inverse=True)
        return TriangleMesh(self.vertices[used], index.reshape(-1, 3))


def signed_volumes(mesh: TriangleMesh) -> Float[np.ndarray, " faces"]:
    """a·(b × c)/6 for each triangle; they sum to the volume that a closed mesh encloses.

    The sum is below 0 where the triangles face inward.
    """
    a, b, c = np.moveaxis(mesh.corners(), 1, 0)
    volumes: np.ndarray = np.einsum("fi,fi->f", a, np.cross(b, c)) / 6
    return volumes


def vertex_normals(mesh: TriangleMesh) -> Vertices:
    """Unit sums of the normals of the triangles round each vertex, weighted by their area.

    (0, 0, 1) where they cancel.
    """
    a, b, c = np.moveaxis(mesh.corners(), 1, 0)
    twice_area = np.repeat(np.cross(b - a, c - a)[:, None], 3, axis=1).reshape(-1, 3)
    flat = mesh.faces.ravel()
    sums = [np.bincount(flat, twice_area[:, i], len(mesh.vertices)) for i in range(3)]
    total = np.stack(sums, axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    upwards = np.array([0.0, 0.0, 1.0])
    return np.where(length > 0, total / np.where(length > 0, length, 1), upwards)
