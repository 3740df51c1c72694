"""The icosphere's graph, against Euler, a convex hull and the icosahedron's eigenvalues."""

import pytest
import torch
from torch import Generator

from sd_core.cameras import icosphere_cameras
from sd_metrics.icosphere import (
    SUBDIVISIONS,
    nearest_vertices,
    neighbour_average,
    neighbours,
    vertices,
)

spatial = pytest.importorskip("scipy.spatial")

everywhere = pytest.mark.parametrize("level", SUBDIVISIONS)


def hull_edges(points):
    """Pairs of the triangles of the convex hull."""
    corners = spatial.ConvexHull(points.numpy()).simplices
    return {frozenset((int(t[i]), int(t[i - 1]))) for t in corners for i in range(3)}


def some_values(count):
    return torch.randn(count, generator=Generator().manual_seed(0), dtype=torch.float64)


@everywhere
def test_vertices_edges_and_faces_are_eulers(level):
    points = vertices(level)
    near = neighbours(points)
    edges = sum(map(len, near)) / 2
    assert len(points) == 10 * 4**level + 2
    assert edges == 30 * 4**level
    assert len(points) - edges + 20 * 4**level == 2
    assert torch.allclose(points.norm(dim=1), torch.ones(len(points), dtype=torch.float64))


@everywhere
def test_neighbours_are_the_edges_of_the_convex_hull(level):
    points = vertices(level)
    found = {frozenset((i, j)) for i, near in enumerate(neighbours(points)) for j in near}
    assert found == hull_edges(points)


@everywhere
def test_twelve_vertices_have_five_neighbours_and_all_others_six(level):
    counts = [len(near) for near in neighbours(vertices(level))]
    assert counts.count(5) == 12
    assert counts.count(6) == len(counts) - 12


@everywhere
def test_neighbours_are_mutual_and_the_same_on_the_other_side(level):
    points = vertices(level)
    near = neighbours(points)
    assert all(i in near[j] for i in range(len(near)) for j in near[i])
    opposite = nearest_vertices(-points, points)[0].tolist()
    for i, j in enumerate(opposite):
        assert {opposite[k] for k in near[i]} == set(near[j])


@everywhere
def test_cameras_stand_at_the_vertices_in_their_order_poles_included(level):
    points = vertices(level)
    cameras = icosphere_cameras(level, distance=3.0)
    torch.testing.assert_close(cameras.position.double(), 3 * points, rtol=0, atol=1e-6)
    turned = cameras.camera_to_world[:, :3, :3]
    torch.testing.assert_close(
        turned @ turned.mT, torch.eye(3).expand(len(points), 3, 3), rtol=0, atol=1e-6
    )
    poles = int((points[:, 2].abs() == 1).sum())
    assert poles == (0 if level == 0 else 2)


@everywhere
def test_the_average_is_that_of_a_matrix_made_from_the_hull(level):
    points = vertices(level)
    matrix = torch.eye(len(points), dtype=torch.float64)
    for i, j in hull_edges(points):
        matrix[i, j] = matrix[j, i] = 1
    matrix /= matrix.sum(dim=1, keepdim=True)
    values = some_values(len(points))
    found = neighbour_average(values, neighbours(points), 3)
    torch.testing.assert_close(found, matrix @ (matrix @ (matrix @ values)))


@everywhere
def test_constants_stay_and_no_rounds_change_nothing(level):
    near = neighbours(vertices(level))
    constant = torch.full((len(near),), 1.7, dtype=torch.float64)
    torch.testing.assert_close(neighbour_average(constant, near, 5), constant)
    values = some_values(len(near))
    assert torch.equal(neighbour_average(values, near, 0), values)


def test_a_slope_over_the_icosahedron_shrinks_by_its_eigenvalue():
    """The coordinates are eigenvectors of its edges, with eigenvalue √5."""
    points = vertices(0)
    factor = ((1 + 5**0.5) / 6) ** 3
    for axis in range(3):
        found = neighbour_average(points[:, axis], neighbours(points), 3)
        torch.testing.assert_close(found, factor * points[:, axis])


def test_many_rounds_end_in_the_weighted_mean():
    near = neighbours(vertices(1))
    values = some_values(len(near))
    weights = torch.tensor([1.0 + len(of) for of in near], dtype=torch.float64)
    mean = (weights * values).sum() / weights.sum()
    found = neighbour_average(values, near, 500)
    torch.testing.assert_close(found, mean.expand_as(found))


def test_the_nearest_vertex_of_a_vertex_is_itself_and_of_a_middle_is_half_an_edge_away():
    points = vertices(1)
    index, distance = nearest_vertices(points, points)
    assert torch.equal(index, torch.arange(len(points)))
    assert distance.max() == 0
    middle = points[0] + points[neighbours(points)[0][0]]
    _, distance = nearest_vertices((middle / middle.norm())[None], points)
    assert 0.2 < float(distance) < 0.4
