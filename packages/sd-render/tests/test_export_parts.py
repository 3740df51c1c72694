"""Floaters, hollows and decimation."""

import numpy as np
import pytest
import torch
import trimesh

from export_fields import Balls, Shell, ball
from sd_render.export.decimation import decimated
from sd_render.export.density_grid import density_grid
from sd_render.export.loose_parts import find_parts, without_floaters
from sd_render.export.mesh_options import MeshOptions
from sd_render.export.surface import extract_surface
from sd_render.export.triangle_mesh import signed_volumes

# Triangles go with the square of the radius: shares of about 1, 1/4 and 1/100.
LARGE, MIDDLE, SMALL = (-0.4, 0.0, 0.0, 0.5), (0.6, 0.0, 0.0, 0.25), (0.8, 0.8, 0.8, 0.08)


def surface(field, resolution=48):
    return extract_surface(field, density_grid(field, resolution), 100.0)


def volumes(mesh):
    return sorted(find_parts(mesh).volume)


def ball_volume(radius):
    return 4 / 3 * np.pi * radius**3


def test_parts_are_the_connected_pieces():
    mesh = surface(Balls(LARGE, MIDDLE, SMALL))
    known = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).split()
    parts = find_parts(mesh)
    assert sorted(parts.faces) == sorted(len(piece.faces) for piece in known)
    assert sorted(parts.volume) == pytest.approx(sorted(piece.volume for piece in known))


def test_small_floaters_are_dropped_and_counted():
    mesh, notes = without_floaters(
        surface(Balls(LARGE, MIDDLE, SMALL)), MeshOptions(smallest_part=0.1)
    )
    assert volumes(mesh) == pytest.approx([ball_volume(0.25), ball_volume(0.5)], rel=0.03)
    assert len(notes) == 1 and "dropped 1 of 3 loose parts" in notes[0]
    assert len(mesh.vertices) == len(np.unique(mesh.faces))


def test_at_most_so_many_parts_are_kept_the_largest_first():
    options = MeshOptions(smallest_part=0.0, parts=2)
    mesh, _ = without_floaters(surface(Balls(SMALL, LARGE, MIDDLE)), options)
    assert volumes(mesh) == pytest.approx([ball_volume(0.25), ball_volume(0.5)], rel=0.03)


def test_nothing_is_dropped_where_nothing_is_small():
    whole = surface(Balls(LARGE, MIDDLE, SMALL))
    mesh, notes = without_floaters(whole, MeshOptions(smallest_part=0.0))
    assert len(mesh.faces) == len(whole.faces) and notes == []


def test_one_part_is_always_left():
    options = MeshOptions(smallest_part=1.0, parts=1)
    mesh, _ = without_floaters(surface(Balls(LARGE, MIDDLE)), options)
    assert volumes(mesh) == pytest.approx([ball_volume(0.5)], rel=0.03)


def test_hollows_are_filled():
    mesh, notes = without_floaters(surface(Shell()), MeshOptions())
    assert volumes(mesh) == pytest.approx([ball_volume(0.7)], rel=0.03)
    assert len(notes) == 1 and "filled 1 hollow(s)" in notes[0]


@pytest.mark.parametrize("parts", [None, 1])
def test_hollows_stay_where_holes_are_not_filled(parts):
    options = MeshOptions(fill_holes=False, parts=parts)
    mesh, notes = without_floaters(surface(Shell()), options)
    assert volumes(mesh) == pytest.approx([-ball_volume(0.4), ball_volume(0.7)], rel=0.03)
    assert notes == []


def test_decimation_keeps_the_shape():
    whole = surface(ball(), 64)
    mesh = decimated(whole, 1000)
    assert len(mesh.faces) <= 1000 < len(whole.faces)
    assert len(mesh.vertices) == len(np.unique(mesh.faces))
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.6, rtol=0.01)
    assert signed_volumes(mesh).sum() == pytest.approx(ball_volume(0.6), rel=0.02)


@pytest.mark.parametrize("faces", [None, 0, 10**6])
def test_without_a_limit_or_below_it_the_mesh_stays_as_it_is(faces):
    whole = surface(ball(), 16)
    assert decimated(whole, faces) is whole


def test_decimation_never_leaves_nothing():
    mesh = decimated(surface(ball(), 24), 1)
    assert 0 < len(mesh.faces) <= 100
    assert signed_volumes(mesh).sum() == pytest.approx(ball_volume(0.6), rel=0.2)


def test_a_decimated_mesh_is_still_closed():
    mesh = decimated(surface(Shell()), 300)
    known = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert known.is_watertight and known.is_winding_consistent


def test_hollows_do_not_count_among_the_parts():
    """The shell's hollow has more triangles than the little ball, which is the second part."""

    class ShellAndBall(Shell):
        def distance(self, points):
            little = 0.12 - (points - torch.tensor([0.8, 0.8, 0.8])).norm(dim=1)
            return torch.maximum(super().distance(points), little)

    options = MeshOptions(fill_holes=False, parts=2, smallest_part=0.0)
    mesh, _ = without_floaters(surface(ShellAndBall()), options)
    kept = [-ball_volume(0.4), ball_volume(0.12), ball_volume(0.7)]
    assert volumes(mesh) == pytest.approx(kept, rel=0.1)
