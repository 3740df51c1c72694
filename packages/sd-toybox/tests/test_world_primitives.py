"""The solids, against marching along the rays and against closed forms."""

from math import inf, sqrt

import pytest
import torch

from sd_toybox.world.pictures import nearest_hits
from sd_toybox.world.primitives import Block, Ellipsoid, Frustum

CENTRE = (0.1, -0.2, 0.05)
SOLIDS = {
    "ball": Ellipsoid(CENTRE, (0.4, 0.4, 0.4)),
    "ellipsoid": Ellipsoid(CENTRE, (0.5, 0.1, 0.3)),
    "box": Block(CENTRE, (0.3, 0.2, 0.4)),
    "bevelled": Block(CENTRE, (0.3, 0.35, 0.2), 0.2),
    "cylinder": Frustum(CENTRE, 0.3, 0.3, 0.4),
    "cone": Frustum(CENTRE, 0.5, 0.0, 0.3),
    "cup": Frustum(CENTRE, 0.1, 0.4, 0.3),
    "disc": Frustum(CENTRE, 0.4, 0.4, 0.01),
}


def inside(solid, points):
    """The definitions, written out once more."""
    x, y, z = (points - torch.tensor(solid.centre, dtype=points.dtype)[:, None]).unbind(0)
    if isinstance(solid, Ellipsoid):
        a, b, c = solid.radii
        return (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 <= 1
    if isinstance(solid, Block):
        a, b, c = solid.half_sizes
        box = (x.abs() <= a) & (y.abs() <= b) & (z.abs() <= c)
        return box & (x.abs() + y.abs() <= a + b - solid.bevel)
    up = (z + solid.half_height) / (2 * solid.half_height)
    radius = solid.bottom + up * (solid.top - solid.bottom)
    return (z.abs() <= solid.half_height) & (x**2 + y**2 <= radius**2)


@pytest.fixture(params=SOLIDS, name="solid")
def every_solid(request):
    return SOLIDS[request.param]


@pytest.fixture(name="shots")
def rays_from_around():
    """Rays from the sphere of radius 2 to anywhere in the cube around the solids."""
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(3, 400, generator=generator, dtype=torch.float64)
    origins = 2 * start / start.norm(dim=0)
    target = torch.rand(3, 400, generator=generator, dtype=torch.float64) * 1.4 - 0.7
    directions = target - origins
    return origins, directions / directions.norm(dim=0)


def test_a_ray_enters_at_the_distance_and_not_before(solid, shots):
    origins, directions = shots
    distance = solid.distance(origins, directions)
    hit = distance.isfinite()
    assert 30 < int(hit.sum()) < 400
    before, after = distance[hit] - 1e-9, distance[hit] + 1e-9
    assert not inside(solid, origins[:, hit] + before * directions[:, hit]).any()
    assert inside(solid, origins[:, hit] + after * directions[:, hit]).all()
    for t in torch.linspace(0, 4, 1000, dtype=torch.float64):
        early = t < distance - 1e-9  # everywhere, for a ray that misses
        assert not (inside(solid, origins + t * directions) & early).any()


def test_normals_are_those_of_supporting_planes(solid, shots):
    origins, directions = shots
    distance = solid.distance(origins, directions)
    hit = distance.isfinite()
    points = origins[:, hit] + distance[hit] * directions[:, hit]
    normals = solid.normals(points)
    assert torch.allclose(normals.norm(dim=0), torch.ones(len(points.T), dtype=torch.float64))
    # A convex solid lies behind each of its tangent planes: n·(q - p) ≤ 0 for all its points.
    heights = normals.T @ points - (normals * points).sum(0)[:, None]
    assert float(heights.max()) < 1e-9
    assert ((normals * directions[:, hit]).sum(0) <= 1e-9).all()  # entered from outside


def test_float32_is_near_float64(solid, shots):
    exact = solid.distance(*shots)
    rough = solid.distance(*(vectors.float() for vectors in shots))
    both = exact.isfinite() & rough.isfinite()
    assert (exact.isfinite() != rough.isfinite()).sum() <= 2  # grazing rays
    assert torch.allclose(rough[both].double(), exact[both], atol=2e-4)


def test_the_ball_of_a_solids_reach_holds_it(solid, shots):
    origins, directions = shots
    distance = solid.distance(origins, directions)
    hit = distance.isfinite()
    points = solid.relative(origins[:, hit] + distance[hit] * directions[:, hit])
    assert float(points.norm(dim=0).max()) <= solid.reach + 1e-9


def test_rays_that_see_no_solid_by_themselves_change_nothing(shots):
    solids = list(SOLIDS.values())
    distance, which = nearest_hits(solids, *shots)
    one_by_one = torch.stack([solid.distance(*shots) for solid in solids])
    assert torch.equal(distance, one_by_one.amin(0))
    hit = distance.isfinite()
    assert torch.equal(which[hit], one_by_one.argmin(0)[hit])
    assert (which[~hit] == -1).all()


ORIGIN = (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("solid", "start", "towards", "expected"),
    [
        (Ellipsoid(ORIGIN, (0.5, 1.0, 1.0)), (2, 0, 0), (-1, 0, 0), 1.5),
        (Ellipsoid(ORIGIN, (0.5, 0.5, 0.5)), (2, 0, 0), (1, 0, 0), inf),  # behind the ray
        (Ellipsoid(ORIGIN, (0.5, 0.5, 0.5)), (2, 0, 0.51), (-1, 0, 0), inf),
        (Ellipsoid((0.0, 0.3, 0.0), (0.5, 0.5, 0.5)), (2, 0, 0), (-1, 0, 0), 1.6),
        (Block(ORIGIN, (0.4, 0.3, 0.2)), (0, 2, 0), (0, -1, 0), 1.7),  # parallel to four faces
        (Block(ORIGIN, (0.4, 0.3, 0.2)), (0, 2, 0.21), (0, -1, 0), inf),
        (Block(ORIGIN, (0.4, 0.3, 0.2)), (0, 2, 0), (0, 1, 0), inf),
        # The bevel cuts |x| + |y| = 0.8 down to 0.6: at x = y = 0.3 on the diagonal.
        (Block(ORIGIN, (0.4, 0.4, 1.0), 0.2), (2, 2, 0), (-1, -1, 0), 1.7 * sqrt(2)),
        (Frustum(ORIGIN, 0.4, 0.4, 0.3), (0.2, 0.1, 2), (0, 0, -1), 1.7),  # along the axis: a = 0
        (Frustum(ORIGIN, 0.4, 0.4, 0.3), (0.5, 0, 2), (0, 0, -1), inf),
        (Frustum(ORIGIN, 0.4, 0.4, 0.3), (2, 0, 0), (1, 0, 0), inf),
        (Frustum(ORIGIN, 0.5, 0.0, 0.25), (2, 0, 0.15), (-1, 0, 0), 1.9),  # radius 0.1 up there
        (Frustum(ORIGIN, 0.5, 0.0, 0.25), (0.2, 0, 2), (0, 0, -1), 1.95),  # z = 0.25 - 0.2
        (Frustum(ORIGIN, 0.5, 0.0, 0.25), (0.2, 0, -2), (0, 0, 1), 1.75),  # the base
        # Parallel to the far flank of a cone of 45°: a = 0, and one root instead of two.
        (Frustum(ORIGIN, 0.5, 0.0, 0.25), (-1, 0, 1), (1, 0, -1), 0.875 * sqrt(2)),
    ],
)
def test_distances_have_closed_forms(solid, start, towards, expected):
    direction = torch.tensor([towards], dtype=torch.float64).T
    origin = torch.tensor([start], dtype=torch.float64).T
    found = float(solid.distance(origin, direction / direction.norm()))
    assert found == pytest.approx(expected)
