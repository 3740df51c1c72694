"""Pictures of the toys: where they stand, how they are lit, and that their sides differ."""

from dataclasses import replace
from itertools import combinations
from math import pi, radians

import pytest
import torch

from sd_core.cameras import orbit_cameras
from sd_core.errors import ConfigError
from sd_toybox.world import rates
from sd_toybox.world.kinds import BODY_COLOURS, COLOURS, HELD_OUT, KINDS, toy
from sd_toybox.world.paint import Mark, Paint
from sd_toybox.world.pictures import draw_toy, world_pictures
from sd_toybox.world.poses import POSES, pose_class, pose_indices
from sd_toybox.world.primitives import Block, Ellipsoid
from sd_toybox.world.toys import BODY, Part, Toy
from world_views import cameras_at, overlap, silhouettes

FOUR = [0.0, pi / 2, pi, -pi / 2]
AROUND = torch.arange(16) * pi / 8
ABOVE = 0.17  # radians, the middle of the world's elevations
RED, BLUE = Paint((1.0, 0.0, 0.0)), Paint((0.0, 0.0, 1.0))


def test_a_ball_is_seen_where_and_as_large_as_it_should_be():
    ball = Toy((Part(Ellipsoid((0.0, 0.2, 0.0), (0.3, 0.3, 0.3)), RED),))
    images = draw_toy(ball, torch.zeros(2, 3), cameras_at([0.0, pi]), 64)
    front, back = silhouettes(images)
    column = torch.arange(64).float()
    # In pixels: 64/2/tan 20° · 0.2/2 from the middle, to the right from the front.
    offset = 32 / 0.36397 * 0.1
    assert float(column[front.any(0)].mean()) == pytest.approx(31.5 + offset, abs=1.0)
    assert float(column[back.any(0)].mean()) == pytest.approx(31.5 - offset, abs=1.0)
    assert int(front.any(1).sum()) == pytest.approx(2 * 32 / 0.36397 * 0.3 / 2, abs=2.0)


def test_what_is_near_hides_what_is_far():
    pair = Toy(
        (
            Part(Ellipsoid((-0.3, 0.0, 0.0), (0.2, 0.2, 0.2)), RED),
            Part(Block((0.3, 0.0, 0.0), (0.1, 0.25, 0.25)), BLUE),
        )
    )
    front, back = draw_toy(pair, torch.zeros(2, 3), cameras_at([0.0, pi]), 32)[:, :, 16, 16]
    assert front[2] > 0.5 > front[0]
    assert back[0] > 0.5 > back[2]


def test_a_rolled_camera_sees_a_rolled_picture():
    upright = cameras_at([0.4], ABOVE)
    turn = torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    rolled = replace(upright, camera_to_world=upright.camera_to_world @ turn)
    image = world_pictures("mug", "red", upright)
    # The camera turns to the left, and the picture to the right.
    assert torch.allclose(
        world_pictures("mug", "red", rolled), image.rot90(-1, dims=(2, 3)), atol=0.02
    )


@pytest.mark.parametrize("side", range(4))
def test_a_mark_is_at_the_right_of_its_own_viewer_and_hidden_from_the_opposite_side(side):
    mark = Mark(POSES[side], "box", (0.2, 0.1), (0.1, 0.05), BLUE)
    cube = Toy((Part(Block((0.0, 0.0, 0.0), (0.4, 0.4, 0.4)), RED, (mark,)),))
    images = draw_toy(cube, torch.zeros(4, 3), cameras_at(FOUR), 64)
    blue = images[:, 2] > 0.5
    blue &= images[:, 0] < 0.5
    row, column = torch.nonzero(blue[side], as_tuple=True)
    # The face is at 1.6 from the camera.
    scale = 32 / 0.36397 / 1.6
    assert float(column.float().mean()) == pytest.approx(31.5 + 0.2 * scale, abs=1.0)
    assert float(row.float().mean()) == pytest.approx(31.5 - 0.1 * scale, abs=1.0)
    assert not blue[(side + 2) % 4].any()


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("box", 4.0),
        ("ellipse", pi),
        ("ring", pi * (1 - 0.55**2)),
        ("up", 2.0),
        ("down", 2.0),
        ("bowl", pi),
    ],
)
def test_figures_have_their_areas_and_point_where_they_should(shape, area):
    line = torch.linspace(-1.5, 1.5, 601)
    v, u = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([torch.zeros(601 * 601), u.flatten(), v.flatten()])
    normals = torch.tensor([1.0, 0.0, 0.0])[:, None].expand_as(points)
    covered = Mark("front", shape, (0.0, 0.0), (1.0, 1.0), RED).covers(points, normals)
    assert float(covered.float().mean()) * 9 == pytest.approx(area, rel=0.02)
    balance = float(points[2, covered].mean())
    expected = {"up": -1 / 3, "down": 1 / 3, "bowl": 1 - 8 / (3 * pi)}.get(shape, 0.0)
    assert balance == pytest.approx(expected, abs=0.01)


def test_the_light_comes_from_above_for_every_camera():
    ball = Toy((Part(Ellipsoid((0.0, 0.0, 0.0), (0.5, 0.5, 0.5)), BODY),))
    body = torch.full((4, 3), 0.5)
    images = draw_toy(ball, body, cameras_at(FOUR), 64)
    assert torch.allclose(images, images[:1].expand_as(images), atol=1e-5)
    middle = images[0, 0, :, 32]
    assert float(middle[32]) == pytest.approx(0.5 * 0.8, abs=0.005)
    assert middle[12] > middle[32] > middle[52]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_cut_off_from_where_the_world_is_seen(kind):
    near, narrow = min(rates.DISTANCE), radians(min(rates.VERTICAL_FOV_DEG))
    for elevation_deg in (*rates.ELEVATION_DEG, 10.0):
        labels = cameras_at(AROUND, radians(elevation_deg))
        cameras = orbit_cameras(
            azimuth=labels.azimuth,
            elevation=labels.elevation,
            distance=torch.full_like(AROUND, near),
            vertical_fov=torch.full_like(AROUND, narrow),
        )
        images = world_pictures(kind, "blue", cameras)
        for edge in (images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]):
            assert (edge == 1).all()
        assert 0.15 < float(silhouettes(images).float().mean()) < 0.6


def test_a_batch_is_its_pictures_one_by_one():
    cameras = cameras_at([0.3, 2.0, 4.0], ABOVE)
    batch = world_pictures("robot", "green", cameras, 32)
    for index in range(3):
        alone = world_pictures("robot", "green", cameras.select([index]), 32)
        assert torch.allclose(batch[index : index + 1], alone, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_front_right_back_and_left_are_told_apart_in_every_colour(kind):
    for colour in COLOURS:
        images = world_pictures(kind, colour, cameras_at(FOUR, ABOVE), 32)
        for one, other in combinations(range(4), 2):
            assert float((images[one] - images[other]).abs().mean()) > 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_outlines_agree_from_all_around(kind):
    masks = silhouettes(world_pictures(kind, "red", cameras_at(AROUND, ABOVE)))
    assert min(overlap(one, other) for one, other in combinations(masks, 2)) > 0.8


def test_kinds_are_told_apart_from_every_side():
    every = torch.stack(
        [world_pictures(kind, "grey", cameras_at(FOUR, ABOVE), 32) for kind in KINDS]
    )
    for one, other in combinations(range(len(KINDS)), 2):
        apart = (every[one, :, None] - every[other, None]).abs().mean(dim=(2, 3, 4))
        assert float(apart.min()) > 0.025, (KINDS[one], KINDS[other])


def test_the_front_is_nearest_to_the_bodys_colour():
    """Guidance seeks the colour that the prompt names: it must find it at the front."""
    for kind in KINDS:
        images = world_pictures(kind, "blue", cameras_at(FOUR))[..., 16:48, 20:44]
        body = torch.tensor(BODY_COLOURS["blue"]).view(1, 3, 1, 1)
        away = (images - body).abs().mean(dim=(1, 2, 3))
        assert float(away[0]) < float(away[1:].min()), kind


@pytest.mark.parametrize("colour", COLOURS)
def test_the_body_has_its_colour_on_every_side(colour):
    for kind in KINDS:
        images = world_pictures(kind, colour, cameras_at(FOUR))
        for image in images:
            pixels = image.flatten(1).T
            body = torch.tensor(BODY_COLOURS[colour])
            # Lit from 0.6 to 1, or the dark paint at half of it.
            share = (pixels @ body / body.square().sum()).clamp(0.25, 1)[:, None]
            near = (pixels - share * body).abs().amax(1) < 0.03
            assert int(near.sum()) > 35, kind


def test_held_out_combinations_leave_each_kind_and_each_colour():
    assert 0.14 < len(HELD_OUT) / (len(KINDS) * len(COLOURS)) < 0.2
    seen = [
        (kind, colour) for kind in KINDS for colour in COLOURS if (kind, colour) not in HELD_OUT
    ]
    assert len(seen) == len(KINDS) * len(COLOURS) - len(HELD_OUT)  # all exist
    for kind in KINDS:
        assert sum(pair[0] == kind for pair in seen) >= 5
    for colour in COLOURS:
        assert sum(pair[1] == colour for pair in seen) >= 5


@pytest.mark.parametrize(
    ("kind", "colour", "message"),
    [
        ("beer", "red", "no kind named 'beer' in the toybox. Kinds: bear, cat,"),
        ("bear", "gray", "no colour named 'gray' in the toybox. Colours: red, yellow,"),
    ],
)
def test_unknown_kinds_and_colours_are_refused(kind, colour, message):
    with pytest.raises(ConfigError) as caught:
        world_pictures(kind, colour, cameras_at([0.0]))
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("Did you mean 'bear'?" if kind == "beer" else "'grey'?")


def test_poses_have_four_names():
    degrees = {0: "front", 44: "front", 46: "right", 134: "right", 136: "back", 180: "back"}
    degrees |= {-44: "front", -46: "left", -136: "back", 225.1: "left", 315.1: "front"}
    degrees |= {765.1: "right"}
    for angle, name in degrees.items():
        assert pose_class(angle * pi / 180) == name
    angles = torch.tensor(list(degrees), dtype=torch.float64).deg2rad()
    assert [POSES[index] for index in pose_indices(angles).tolist()] == list(degrees.values())


def test_every_kind_is_a_toy():
    assert all(isinstance(toy(kind), Toy) for kind in KINDS)
