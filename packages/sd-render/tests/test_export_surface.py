"""The surface of a density: where it is, closed, facing outward."""

import numpy as np
import pytest
import torch
import trimesh

from export_fields import Balls, Shape, Torus, ball
from sd_render.export.density_grid import density_grid
from sd_render.export.surface import extract_surface
from sd_render.export.triangle_mesh import TriangleMesh, signed_volumes, vertex_normals


def surface(field, resolution, level):
    return extract_surface(field, density_grid(field, resolution), level)


def closed(mesh):
    """Whether every edge is shared by two triangles that run along it in opposite directions."""
    known = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    return known.is_watertight and known.is_winding_consistent


@pytest.mark.parametrize("steepness", [10.0, 40.0, 400.0])
@pytest.mark.parametrize("level", [10.0, 100.0])
def test_a_sphere_has_the_radius_of_its_level(steepness, level):
    field = ball(steepness=steepness)
    mesh = surface(field, 32, level)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    expected = field.radius_of(level)
    assert np.abs(radius - expected).max() < 0.02 * (2 / 31)  # a fiftieth of a cell
    assert closed(mesh)


def test_a_jump_of_the_density_is_found_within_a_twentieth_of_a_cell():
    field = ball(steepness=1e6)
    radius = np.linalg.norm(surface(field, 32, 5.0).vertices, axis=1)
    assert np.abs(radius - 0.6).max() < 0.05 * (2 / 31)


def test_triangles_face_outward():
    mesh = surface(ball(), 32, 100.0)
    # An inscribed polyhedron is a little smaller than the ball.
    assert 0.98 < signed_volumes(mesh).sum() / (4 / 3 * np.pi * 0.6**3) < 1
    outward = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    assert (vertex_normals(mesh) * outward).sum(axis=1).min() > 0.99


def test_world_coordinates_are_the_fields_own():
    field = Balls((0.5, -0.4, 0.8, 0.3), half_extent=1.5)
    mesh = surface(field, 48, 100.0)
    np.testing.assert_allclose(mesh.vertices.mean(axis=0), [0.5, -0.4, 0.8], atol=0.01)
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [0.2, -0.7, 0.5], atol=0.01)


def test_a_torus_has_a_hole():
    mesh = surface(Torus(), 32, 100.0)
    edges = len(mesh.faces) * 3 // 2
    assert closed(mesh) and len(mesh.vertices) - edges + len(mesh.faces) == 0
    assert signed_volumes(mesh).sum() == pytest.approx(2 * np.pi**2 * 0.55 * 0.25**2, rel=0.02)


def test_matter_is_closed_where_the_cube_ends():
    field = Balls((1.0, 0.0, 0.0, 0.6))  # the half outside the cube is not there
    mesh = surface(field, 33, 100.0)
    assert closed(mesh)
    assert mesh.vertices[:, 0].max() == pytest.approx(1, abs=1e-6)
    assert signed_volumes(mesh).sum() == pytest.approx(2 / 3 * np.pi * 0.6**3, rel=0.02)


def test_a_full_cube_is_a_cube():
    class Full(Shape):
        def distance(self, points):
            return torch.ones(len(points))

    mesh = surface(Full(), 9, 100.0)
    # Its edges are rounded off between the grid's last point and nothing.
    assert closed(mesh) and signed_volumes(mesh).sum() == pytest.approx(8, rel=0.01)


def test_a_level_that_grid_points_have_exactly_leaves_no_triangles_without_area():
    class Slope(Shape):
        def density(self, points):
            return 8 * (1 - points.abs().amax(dim=1))  # 2, 4, 6, 8 on the grid

    mesh = surface(Slope(), 9, 4.0)
    assert closed(mesh) and signed_volumes(mesh).sum() == pytest.approx(1, rel=1e-3)


def test_signed_volumes_of_a_box_sum_to_its_volume():
    box = trimesh.creation.box((1.0, 2.0, 3.0)).apply_translation((5.0, 6.0, 7.0))
    mesh = TriangleMesh(np.array(box.vertices), np.array(box.faces))
    assert signed_volumes(mesh).sum() == pytest.approx(6)
    inside_out = TriangleMesh(mesh.vertices, mesh.faces[:, ::-1])
    assert signed_volumes(inside_out).sum() == pytest.approx(-6)


def test_normals_are_those_of_trimesh_with_area_weights():
    known = trimesh.creation.icosphere(subdivisions=1)
    stretched = np.array(known.vertices) * [1.0, 2.0, 3.0]
    ours = vertex_normals(TriangleMesh(stretched, np.array(known.faces)))
    flat = trimesh.Trimesh(stretched, known.faces, process=False)
    sums = np.zeros((len(stretched), 3))
    for corners, normal, area in zip(known.faces, flat.face_normals, flat.area_faces, strict=True):
        sums[corners] += area * normal
    np.testing.assert_allclose(ours, sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-9)


def test_a_vertex_whose_triangles_cancel_points_up():
    vertices = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    there_and_back = TriangleMesh(vertices, np.array([[0, 1, 2], [0, 2, 1]]))
    np.testing.assert_array_equal(vertex_normals(there_and_back), [[0, 0, 1]] * 3)
