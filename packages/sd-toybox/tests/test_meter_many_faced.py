"""Toys with several faces."""

from math import cos, pi, sin, tau

import pytest
import torch

from meter_views import views_of
from sd_toybox.meter.many_faced import TurnedSolid, many_faced
from sd_toybox.world.kinds import KINDS, toy
from sd_toybox.world.primitives import Block, Frustum
from sd_toybox.world.toys import BODY, Part, Toy
from world_views import cameras_at


@pytest.mark.parametrize("faces", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_face_looks_as_the_true_one(kind, faces):
    """In the middle of the picture: what is at its edge belongs to the sides."""
    azimuths = [face * tau / faces for face in range(faces)]
    front = views_of(toy(kind), "red", cameras_at([0.0]))
    seen = views_of(many_faced(kind, faces), "red", cameras_at(azimuths))
    torch.testing.assert_close(seen[0, :, 22:, 25:39], front[0, :, 22:, 25:39])
    if kind not in ("robot", "bus", "house", "rocket"):  # those are not round, the others look so
        middle = (seen - front)[:, :, 22:48, 25:39].abs()
        assert middle.mean() < 0.03


def test_a_side_stands_between_two_faces():
    penguin = many_faced("penguin", 3)
    right = views_of(toy("penguin"), "red", cameras_at([pi / 2]))
    between = views_of(penguin, "red", cameras_at([tau / 6, tau / 2]))
    strip, below = slice(30, 34), slice(16, 44)  # near its ends 15° are less than that
    for view in between:
        torch.testing.assert_close(view[:, below, strip], right[0, :, below, strip])
    left = views_of(toy("penguin"), "red", cameras_at([-pi / 2]))
    before = views_of(penguin, "red", cameras_at([-tau / 6]))
    torch.testing.assert_close(before[..., below, strip], left[..., below, strip])


def test_there_is_no_back():
    assert {mark.side for part in many_faced("cat", 2).parts for mark in part.marks} == {
        "front",
        "right",
        "left",
    }


def test_each_side_brings_its_ear():
    ears = [part.solid.centre for part in many_faced("bear", 3).parts[1:]]
    azimuths = sorted(torch.tensor([y / x for x, y, _ in ears]).atan().rad2deg().tolist())
    assert len(ears) == 3
    assert azimuths == pytest.approx([-60.0, 0.0, 60.0], abs=1e-4)  # 180° is the atan of 0 too
    assert all(x * x + y * y == pytest.approx(0.26**2) for x, y, _ in ears)


def test_two_faces_leave_the_handle_where_it_is():
    true, two = toy("mug").parts[-1].solid.centre, many_faced("mug", 2).parts[-1].solid.centre
    assert two == pytest.approx(true)


@pytest.mark.parametrize(
    "solid",
    [Block((0.2, -0.1, 0.0), (0.1, 0.3, 0.2), 0.1), Frustum((0.0, 0.2, 0.1), 0.3, 0.1, 0.3)],
)
def test_a_turned_solid_looks_as_from_a_camera_turned_back(solid):
    turn = 0.7
    x, y, z = solid.centre
    centre = (x * cos(turn) - y * sin(turn), x * sin(turn) + y * cos(turn), z)
    turned = Toy((Part(TurnedSolid(centre, solid, turn), BODY),))
    views = views_of(turned, "blue", cameras_at([turn, turn + 1.0], 0.3))
    wanted = views_of(Toy((Part(solid, BODY),)), "blue", cameras_at([0.0, 1.0], 0.3))
    different = (views - wanted).abs() > 1e-4  # a ray that just grazes an edge may differ
    assert different.float().mean() < 2e-3
    assert (wanted < 0.9).float().mean() > 0.02


def test_the_normals_of_a_turned_solid_point_outwards():
    """A cone's: along the radius from its own axis, wherever that stands and however it turns."""
    cone = Frustum((0.3, 0.0, 0.0), 0.2, 0.0, 0.2)
    block = Block((0.3, 0.0, 0.0), (0.1, 0.2, 0.3))
    turn = 0.7
    centre = torch.tensor([[0.3 * cos(turn)], [0.3 * sin(turn)], [0.0]])
    radius = torch.tensor([[cos(2.0)], [sin(2.0)], [0.0]])
    of_cone = TurnedSolid(tuple(centre[:, 0].tolist()), cone, turn).normals(centre + 0.1 * radius)
    torch.testing.assert_close(of_cone[:2] / of_cone[:2].norm(), radius[:2])
    outwards = torch.tensor([[cos(turn)], [sin(turn)], [0.0]])
    of_block = TurnedSolid(tuple(centre[:, 0].tolist()), block, turn).normals(
        centre + 0.1 * outwards
    )
    torch.testing.assert_close(of_block, outwards)
