"""Floaters and hollows: which of a mesh's connected parts are kept."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from sd_render.export.mesh_options import MeshOptions
from sd_render.export.triangle_mesh import TriangleMesh, signed_volumes


@dataclass(frozen=True, eq=False)
class Parts:
    """The connected parts of a mesh: their triangles' number, and their signed volume.

    `of_face` says which part a triangle belongs to. A hollow's triangles face its inside, so its
    volume is below 0.
    """

    of_face: Int[np.ndarray, " faces"]
    faces: Int[np.ndarray, " parts"]
    volume: Float[np.ndarray, " parts"]


def find_parts(mesh: TriangleMesh) -> Parts:
    """Triangles that share a vertex are of one part."""
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    start, end = mesh.faces.ravel(), np.roll(mesh.faces, 1, axis=1).ravel()
    joined = coo_array(
        (np.ones(len(start), dtype=np.int8), (start, end)), shape=(len(mesh.vertices),) * 2
    )
    _, of_vertex = connected_components(joined, directed=False)
    _, of_face = np.unique(of_vertex[mesh.faces[:, 0]], return_inverse=True)
    return Parts(of_face, np.bincount(of_face), np.bincount(of_face, signed_volumes(mesh)))


def parts_to_keep(parts: Parts, options: MeshOptions) -> Bool[np.ndarray, " parts"]:
    """Of the parts with matter inside: the `parts` largest of at least `smallest_part`'s share.

    A hollow is kept where holes are not filled, if it is large enough too.
    """
    solid = parts.volume > 0
    candidates = solid if options.fill_holes else np.ones_like(solid)
    largest = parts.faces[solid].max(initial=0)
    kept: np.ndarray = candidates & (parts.faces >= options.smallest_part * largest)
    if options.parts is not None:
        falling = np.argsort(-np.where(kept & solid, parts.faces, 0), kind="stable")
        among_largest = np.zeros_like(solid)
        among_largest[falling[: options.parts]] = True
        kept &= among_largest | ~solid
    return kept


def without_floaters(mesh: TriangleMesh, options: MeshOptions) -> tuple[TriangleMesh, list[str]]:
    """The mesh without the parts that the options drop, and what to tell the user."""
    parts = find_parts(mesh)
    kept = parts_to_keep(parts, options)
    hollow = ~kept & (parts.volume <= 0)
    loose = ~kept & ~hollow
    notes = []
    if loose.any():
        notes.append(
            f"dropped {loose.sum()} of {(parts.volume > 0).sum()} loose parts, "
            f"{_share(parts, loose)} of all triangles (see smallest_part and parts)."
        )
    if hollow.any():
        notes.append(
            f"filled {hollow.sum()} hollow(s) that nobody sees from outside, "
            f"{_share(parts, hollow)} of all triangles (see fill_holes)."
        )
    return TriangleMesh(mesh.vertices, mesh.faces[kept[parts.of_face]]).used_only(), notes


def _share(parts: Parts, some: Bool[np.ndarray, " parts"]) -> str:
    return f"{100 * parts.faces[some].sum() / parts.faces.sum():.1f} %"
