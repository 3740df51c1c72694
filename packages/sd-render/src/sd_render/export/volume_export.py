"""A volume as a mesh file: surface, loose parts, decimation, colours, bytes."""

from sd_core.renderer import Exported
from sd_render.export.coloured_mesh import ColouredMesh, with_texture, with_vertex_colours
from sd_render.export.decimation import decimated
from sd_render.export.density_grid import density_grid
from sd_render.export.field_queries import not_training
from sd_render.export.iso_level import choose_level
from sd_render.export.loose_parts import without_floaters
from sd_render.export.mesh_files import FRAMES, mesh_files
from sd_render.export.mesh_options import MeshOptions
from sd_render.export.surface import extract_surface
from sd_render.export.triangle_mesh import TriangleMesh
from sd_render.field import AbstractField


def export_volume(field: AbstractField, kind: str, name: str, options: MeshOptions) -> Exported:
    """The files of `name`.`kind`, a kind of FRAMES, and notes on how they were made.

    Nothing is drawn at random: the same field gives the same bytes.
    """
    options.check(kind)
    with not_training(field):
        mesh, cell, notes = light_surface(field, options)
        coloured, more = _coloured(field, mesh, cell, options=options, kind=kind)
    files = mesh_files(coloured, kind, name=name, material=options.material)
    notes += [*more, FRAMES[kind]]
    notes += [f"{file}: {_size(len(content))}." for file, content in files.items()]
    return Exported(files, tuple(notes))


def light_surface(
    field: AbstractField, options: MeshOptions
) -> tuple[TriangleMesh, float, list[str]]:
    """The surface without floaters, decimated; the side of a grid cell; and notes."""
    grid = density_grid(field, options.resolution)
    level = choose_level(field, grid, options.level)
    whole, notes = without_floaters(extract_surface(field, grid, level.value), options)
    mesh = decimated(whole, options.faces)
    return mesh, grid.spacing, [level.reason, *notes, _lighter(whole, mesh)]


def _coloured(
    field: AbstractField, mesh: TriangleMesh, cell: float, *, options: MeshOptions, kind: str
) -> tuple[ColouredMesh, list[str]]:
    if kind == "ply" or options.colours == "vertices":
        note = "one colour a vertex: with more triangles (see faces) the colours are finer."
        return with_vertex_colours(field, mesh, cell), [note]
    return with_texture(field, mesh, cell, options)


def _lighter(whole: TriangleMesh, mesh: TriangleMesh) -> str:
    now = f"{len(mesh.vertices)} vertices, {len(mesh.faces)} triangles"
    if len(mesh.faces) == len(whole.faces):
        return f"{now}."
    return f"{now}; {len(whole.faces)} triangles before decimation (see faces)."


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
