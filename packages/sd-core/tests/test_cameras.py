"""Cameras stand where the angles say, look where they should, and rays leave through the pixels."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sd_core.cameras import (
    CameraBatch,
    fitting_distance,
    icosphere,
    icosphere_cameras,
    look_at,
    orbit_cameras,
    orbit_direction,
    rays,
    sheet_cameras,
    turntable,
)

UP = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def orbit(azimuth_deg: float, elevation_deg: float, distance: float = 2.0) -> CameraBatch:
    return orbit_cameras(
        azimuth=column(math.radians(azimuth_deg)),
        elevation=column(math.radians(elevation_deg)),
        distance=column(distance),
        vertical_fov=column(math.radians(50)),
    )


def random_orbit(count: int, seed: int = 0) -> CameraBatch:
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    return orbit_cameras(
        azimuth=(unit[:, 0] * 2 - 1) * math.pi,
        elevation=(unit[:, 1] - 0.5) * 3.1,
        distance=1 + unit[:, 2],
        vertical_fov=0.5 + unit[:, 3],
    )


def assert_rigid(poses: Tensor) -> None:
    turn = poses[:, :3, :3]
    assert_close(turn.mT @ turn, torch.eye(3, dtype=poses.dtype).expand_as(turn))
    assert_close(torch.linalg.det(turn), torch.ones(len(poses), dtype=poses.dtype))
    assert_close(poses[:, 3], poses.new_tensor([0, 0, 0, 1]).expand(len(poses), 4))


def same(left: CameraBatch, right: CameraBatch) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(vars(left).values(), vars(right).values(), strict=True)
    )


def test_poses_are_rotations_and_translations() -> None:
    generator = torch.Generator().manual_seed(1)
    position, target, up = torch.randn(3, 50, 3, generator=generator, dtype=torch.float64)
    assert_rigid(look_at(position, target, up))
    assert_rigid(random_orbit(50).camera_to_world)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "place"),
    [(0, 0, (2, 0, 0)), (90, 0, (0, 2, 0)), (180, 0, (-2, 0, 0)), (-90, 0, (0, -2, 0)),
     (0, 90, (0, 0, 2)), (0, -90, (0, 0, -2)), (90, 30, (0, 3**0.5, 1))],
)  # fmt: skip
def test_a_camera_stands_where_its_angles_say_and_looks_at_the_origin(
    azimuth: float, elevation: float, place: tuple[float, ...]
) -> None:
    camera = orbit(azimuth, elevation)
    assert_close(camera.position, column(*place)[None])
    assert_close(-camera.camera_to_world[:, :3, 2], -camera.position / 2)
    assert_close(camera.light_position, camera.position)
    assert_close(camera.direction, camera.position / 2)


def test_the_front_camera_has_plus_y_at_its_right_and_z_upright() -> None:
    pose = orbit(0, 0).camera_to_world[0]
    assert_close(pose[:3, 0], column(0, 1, 0))
    assert_close(pose[:3, 1], column(0, 0, 1))


def test_an_orbit_is_what_look_at_gives_from_the_same_place() -> None:
    cameras = random_orbit(100)
    poses = look_at(cameras.position, torch.zeros_like(cameras.position), UP.expand(100, 3))
    assert_close(cameras.camera_to_world, poses)


@pytest.mark.parametrize("elevation", [90, -90])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_look_at_is_defined_straight_above_and_below(
    elevation: float, precision: torch.dtype
) -> None:
    camera = orbit(0, elevation)
    pose = look_at(
        camera.position.to(precision), torch.zeros(1, 3, dtype=precision), UP.to(precision)
    )
    assert_rigid(pose)
    assert_close(pose, camera.camera_to_world.to(precision), atol=1e-6, rtol=0)


def test_look_at_does_not_depend_on_the_length_of_up() -> None:
    position, target = column(1, 2, 3)[None], column(0, 0.5, 0)[None]
    assert_close(look_at(position, target, UP), look_at(position, target, UP * 1e-9))


def test_a_camera_on_its_own_target_is_refused() -> None:
    with pytest.raises(ValueError, match="stands on its own target"):
        look_at(torch.ones(1, 3), torch.ones(1, 3), UP.float())


def test_the_centre_ray_meets_the_target() -> None:
    cameras = random_orbit(5)
    origins, directions = rays(cameras, 3, 5)
    assert_close(origins[:, 1, 2], cameras.position)
    assert_close(directions[:, 1, 2], -cameras.direction)


def test_rays_are_those_of_a_loop_over_pixels() -> None:
    cameras, height, width = random_orbit(2), 4, 6
    _, directions = rays(cameras, height, width)
    for index in range(2):
        right, up, backward = cameras.camera_to_world[index, :3, :3].unbind(dim=1)
        edge = math.tan(float(cameras.vertical_fov[index]) / 2)
        for i in range(height):
            for j in range(width):
                y = edge * (1 - (2 * i + 1) / height)
                x = edge * ((2 * j + 1) / width - 1) * width / height
                ray = x * right + y * up - backward
                assert_close(directions[index, i, j], ray / ray.norm())


def test_the_picture_spans_the_vertical_field_of_view() -> None:
    height = 1000
    _, directions = rays(orbit(0, 0), height, 1)
    top, bottom = directions[0, 0, 0], directions[0, -1, 0]
    assert top[2] > 0 > bottom[2]
    inset = math.tan(math.radians(25)) * (1 - 1 / height)  # the centre of the outermost pixel
    assert float(top[2] / -top[0]) == pytest.approx(inset, rel=1e-12)


def test_rays_have_unit_length_and_one_origin_a_camera() -> None:
    cameras = random_orbit(3)
    origins, directions = rays(cameras, 7, 4)
    assert origins.shape == directions.shape == (3, 7, 4, 3)
    assert_close(directions.norm(dim=-1), torch.ones(3, 7, 4, dtype=torch.float64))
    assert torch.equal(origins, cameras.position[:, None, None].expand(3, 7, 4, 3))


def test_the_right_half_of_the_front_picture_is_plus_y() -> None:
    _, directions = rays(orbit(0, 0), 2, 2)
    assert bool((directions[0, :, 1, 1] > 0).all())
    assert bool((directions[0, :, 0, 1] < 0).all())


def test_select_takes_lists_slices_indices_and_masks() -> None:
    cameras = random_orbit(5)
    picked = cameras.select([3, 0])
    assert len(picked) == 2
    assert torch.equal(picked.azimuth, cameras.azimuth[[3, 0]])
    assert same(picked, cameras.select(torch.tensor([3, 0])))
    assert same(cameras.select(slice(1, 3)), cameras.select([1, 2]))
    assert same(cameras.select(cameras.azimuth > -9), cameras)


def test_parts_of_a_batch_concatenate_to_the_batch() -> None:
    cameras = random_orbit(5)
    parts = [cameras.select(slice(0, 2)), cameras.select(slice(2, 5))]
    assert same(CameraBatch.concatenate(parts), cameras)


def test_repeat_copies_the_whole_batch() -> None:
    cameras = random_orbit(2)
    assert same(cameras.repeat(3), cameras.select([0, 1, 0, 1, 0, 1]))
    assert same(cameras.repeat(3), CameraBatch.concatenate([cameras] * 3))


def test_moving_to_the_same_device_changes_nothing() -> None:
    cameras = random_orbit(2)
    assert same(cameras.to("cpu"), cameras)
    assert {values.device.type for values in vars(cameras.to("meta")).values()} == {"meta"}


def test_a_turntable_goes_once_around_in_equal_steps() -> None:
    cameras = turntable(8, elevation_deg=20.0)
    assert_close(cameras.azimuth.rad2deg(), torch.arange(8) * 45.0)
    assert_close(cameras.elevation.rad2deg(), torch.full((8,), 20.0))
    assert len(turntable(1)) == 1


def test_a_sheet_has_a_row_for_each_elevation() -> None:
    cameras = sheet_cameras(elevations_deg=(30.0, -10.0))
    assert_close(cameras.azimuth.rad2deg(), torch.tensor([0.0, 90, 180, 270] * 2))
    assert_close(cameras.elevation.rad2deg(), torch.tensor([30.0] * 4 + [-10.0] * 4))
    assert len(sheet_cameras()) == 12


@pytest.mark.parametrize("subdivisions", [0, 1, 2, 3])
def test_an_icosphere_has_distinct_unit_vertices_evenly_spread(subdivisions: int) -> None:
    vertices = icosphere(subdivisions)
    assert len(vertices) == 10 * 4**subdivisions + 2
    assert_close(vertices.norm(dim=-1), torch.ones(len(vertices), dtype=torch.float64))
    assert_close(vertices.sum(dim=0), column(0, 0, 0), atol=1e-12, rtol=0)
    second_moment = vertices.mT @ vertices / len(vertices)
    assert_close(second_moment, torch.eye(3, dtype=torch.float64) / 3)
    gaps = torch.cdist(vertices, vertices).fill_diagonal_(9).min(dim=1).values
    edge = 4 / math.sqrt(10 + 2 * math.sqrt(5)) / 2**subdivisions  # of the unit icosahedron
    assert edge * 0.999 < gaps.min() <= gaps.max() < edge * 1.25


def test_icosphere_cameras_stand_on_the_vertices_and_look_inwards() -> None:
    cameras = icosphere_cameras(2, distance=3.0)
    assert len(cameras) == 162
    assert_close(cameras.position, 3 * icosphere(2).float())
    assert_close(-cameras.camera_to_world[:, :3, 2], -cameras.direction)
    assert_rigid(cameras.camera_to_world)


@pytest.mark.parametrize("fov", [20.0, 40.0, 75.0])
def test_the_unit_ball_just_fits_at_the_fitting_distance(fov: float) -> None:
    cameras = turntable(3, vertical_fov_deg=fov)
    assert_close(cameras.distance, torch.full((3,), fitting_distance(fov)))
    limb = math.asin(1 / fitting_distance(fov))  # half the angle under which the ball appears
    assert 2 * math.degrees(limb) == pytest.approx(fov)
    assert fitting_distance(fov, radius=0.5) == pytest.approx(fitting_distance(fov) / 2)


def test_evaluation_cameras_come_in_the_default_precision() -> None:
    for cameras in (turntable(2), sheet_cameras(), icosphere_cameras(0)):
        assert {values.dtype for values in vars(cameras).values()} == {torch.float32}


def test_direction_of_the_labels_is_the_formula() -> None:
    azimuth, elevation = column(0.3), column(-0.4)
    x, y = math.cos(-0.4) * math.cos(0.3), math.cos(-0.4) * math.sin(0.3)
    assert_close(orbit_direction(azimuth, elevation), column(x, y, math.sin(-0.4))[None])
