"""Random cameras follow their ranges and laws, and come from the generator alone."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from sd_core.camera_sampling import CameraOptions, sample_cameras
from sd_core.cameras import CameraBatch, orbit_cameras
from sd_core.config import parse_options
from sd_core.errors import ConfigError

JITTER: dict[str, Any] = {"position_jitter": 0.1, "target_jitter": 0.2, "up_jitter": 0.02}


def sampled(seed: int = 0, **options: Any) -> CameraBatch:
    chosen = CameraOptions.model_validate(options)
    return sample_cameras(chosen, torch.Generator().manual_seed(seed))


def largest_gap_to_uniform(values: Tensor, low: float, high: float) -> float:
    """The Kolmogorov-Smirnov distance between a sample and the uniform law."""
    unit = ((values.double() - low) / (high - low)).sort().values
    steps = torch.arange(len(unit) + 1) / len(unit)
    return float(torch.maximum((steps[1:] - unit).abs(), (unit - steps[:-1]).abs()).max())


def critical(count: int) -> float:
    """What a uniform sample exceeds once in ten thousand times: sqrt(ln(2/p)/2n)."""
    return math.sqrt(math.log(2e4) / (2 * count))


def labels(cameras: CameraBatch) -> Tensor:
    columns = (cameras.azimuth, cameras.elevation, cameras.distance, cameras.vertical_fov)
    return torch.stack(columns)


def test_the_same_generator_gives_the_same_bits() -> None:
    first, again = sampled(3, batch=4, **JITTER), sampled(3, batch=4, **JITTER)
    for name, values in vars(first).items():
        assert torch.equal(values, getattr(again, name)), name
    assert not torch.equal(first.azimuth, sampled(4, batch=4).azimuth)


def test_sampling_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    sampled(batch=4, **JITTER)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("law", ["degrees", "sphere", "both"])
def test_every_label_stays_in_its_range(law: str) -> None:
    cameras = sampled(batch=5000, elevation_law=law)
    ranges = [(-180, 180), (-10, 45), (1, 1.5), (40, 70)]
    values = labels(cameras)
    values[[0, 1, 3]] = values[[0, 1, 3]].rad2deg()
    for (low, high), row in zip(ranges, values, strict=True):
        assert low - 1e-4 <= row.min() < low + 0.05 * (high - low)
        assert high + 1e-4 >= row.max() > high - 0.05 * (high - low)


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_each_stratum_of_azimuth_holds_one_camera(batch: int) -> None:
    azimuth = sampled(batch=batch, azimuth_deg=[-90, 180]).azimuth.rad2deg()
    stratum = ((azimuth + 90) / 270 * batch).floor().long()
    assert stratum.tolist() == list(range(batch))


def test_azimuth_without_strata_is_uniform_and_unordered() -> None:
    azimuth = sampled(batch=20_000, stratified_azimuth=False).azimuth
    assert largest_gap_to_uniform(azimuth, -math.pi, math.pi) < critical(20_000)
    assert not torch.equal(azimuth, azimuth.sort().values)


def test_one_stratum_is_the_unstratified_azimuth() -> None:
    assert_close(
        sampled(stratified_azimuth=True).azimuth, sampled(stratified_azimuth=False).azimuth
    )


def test_the_sphere_law_is_uniform_in_the_sine_and_not_in_degrees() -> None:
    elevation = sampled(batch=20_000, elevation_law="sphere", elevation_deg=[-30, 90]).elevation
    assert largest_gap_to_uniform(elevation.sin(), -0.5, 1) < critical(20_000)
    assert largest_gap_to_uniform(elevation.rad2deg(), -30, 90) > critical(20_000)


def test_the_degrees_law_is_uniform_in_degrees_and_not_in_the_sine() -> None:
    elevation = sampled(batch=20_000, elevation_law="degrees", elevation_deg=[-30, 90]).elevation
    assert largest_gap_to_uniform(elevation.rad2deg(), -30, 90) < critical(20_000)
    assert largest_gap_to_uniform(elevation.sin(), -0.5, 1) > critical(20_000)


def test_both_throws_one_coin_for_a_batch() -> None:
    heads = 0
    for seed in range(200):
        either = sampled(seed, batch=3).elevation
        degrees = sampled(seed, batch=3, elevation_law="degrees").elevation
        sphere = sampled(seed, batch=3, elevation_law="sphere").elevation
        assert torch.equal(either, degrees) != torch.equal(either, sphere)
        heads += torch.equal(either, sphere)
    assert 65 < heads < 135  # five standard deviations


def test_equal_ends_fix_the_camera() -> None:
    fixed: dict[str, Any] = {"elevation_deg": [90, 90], "azimuth_deg": [30, 30], "distance": [2, 2]}
    cameras = sampled(batch=2, elevation_law="sphere", **fixed)
    assert_close(cameras.position, torch.tensor([[0.0, 0.0, 2.0]] * 2), atol=1e-5, rtol=0)
    assert not cameras.camera_to_world.isnan().any()


def test_without_jitter_cameras_are_exactly_on_the_orbit() -> None:
    cameras = sampled(batch=16)
    exact = orbit_cameras(
        azimuth=cameras.azimuth,
        elevation=cameras.elevation,
        distance=cameras.distance,
        vertical_fov=cameras.vertical_fov,
    )
    assert torch.equal(cameras.camera_to_world, exact.camera_to_world)


def test_jitter_moves_the_pose_and_leaves_the_labels() -> None:
    still, moved = sampled(batch=16), sampled(batch=16, **JITTER)
    assert torch.equal(labels(still), labels(moved))
    assert not torch.allclose(still.camera_to_world, moved.camera_to_world)
    turn = moved.camera_to_world[:, :3, :3]
    assert_close(turn.mT @ turn, torch.eye(3).expand_as(turn), atol=1e-5, rtol=0)


def test_position_jitter_fills_a_box() -> None:
    cameras = sampled(batch=20_000, position_jitter=0.1)
    shift = cameras.position - cameras.distance[:, None] * cameras.direction
    for axis in shift.unbind(dim=1):
        assert largest_gap_to_uniform(axis, -0.1, 0.1) < critical(20_000)
    towards_origin = -cameras.position / cameras.position.norm(dim=1, keepdim=True)
    assert_close(-cameras.camera_to_world[:, :3, 2], towards_origin)


def test_target_jitter_turns_the_camera_where_it_stands() -> None:
    still, moved = sampled(batch=4), sampled(batch=4, target_jitter=0.2)
    assert_close(still.position, moved.position)
    assert not torch.allclose(still.camera_to_world[:, :3, 2], moved.camera_to_world[:, :3, 2])


def test_up_jitter_only_rolls_the_camera() -> None:
    still, moved = sampled(batch=4), sampled(batch=4, up_jitter=0.02)
    assert_close(still.camera_to_world[:, :3, 2:], moved.camera_to_world[:, :3, 2:])
    assert not torch.allclose(still.camera_to_world[:, :3, 0], moved.camera_to_world[:, :3, 0])


def test_the_camera_light_stands_at_the_jittered_camera() -> None:
    cameras = sampled(batch=4, light="camera", **JITTER)
    assert torch.equal(cameras.light_position, cameras.position)


def test_the_dreamfusion_light_keeps_its_distance_and_leans_to_the_camera() -> None:
    cameras = sampled(batch=5000, distance=[1.5, 2], light_distance=[0.8, 1.5])
    far = cameras.light_position.norm(dim=1)
    assert far.min() >= 0.8 - 1e-5 and far.max() <= 1.5 + 1e-5
    agreement = (cameras.light_position / far[:, None] * cameras.direction).sum(dim=1)
    assert agreement.mean() > 0.5
    assert agreement.min() < 0  # a lamp may stand behind the object too


def test_the_light_does_not_move_the_cameras() -> None:
    lamp, own = sampled(batch=4, light="dreamfusion"), sampled(batch=4, light="camera")
    assert torch.equal(lamp.camera_to_world, own.camera_to_world)


@pytest.mark.parametrize(
    "name", ["elevation_deg", "azimuth_deg", "distance", "vertical_fov_deg", "light_distance"]
)
def test_a_range_with_its_ends_swapped_is_refused_in_plain_words(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(CameraOptions, {name: [40, 20.5]}, where="camera")
    assert str(caught.value) == (
        f"camera.{name}: the range begins at 40 and ends at 20.5: "
        "write the low end first, [20.5, 40]"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("elevation_deg", [-91, 0]), ("elevation_deg", [0, 91]), ("azimuth_deg", [0, 361]),
     ("distance", [0, 1]), ("vertical_fov_deg", [0, 40]), ("vertical_fov_deg", [40, 180]),
     ("light_distance", [-1, 1]), ("batch", 0), ("position_jitter", -0.1),
     ("distance", [1, math.nan]), ("distance", [1, math.inf]), ("elevation_law", "cube")],
)  # fmt: skip
def test_values_out_of_bounds_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        CameraOptions.model_validate({name: value})


def test_every_option_is_described() -> None:
    assert all(field.description for field in CameraOptions.model_fields.values())
