"""The judge that knows the true object's renders."""

from math import radians, tau

import pytest
import torch
from torch.nn.functional import affine_grid, grid_sample, interpolate

from meter_views import ring, views_of
from sd_core.cameras import CameraBatch
from sd_toybox.meter.pose_judge import LEAST_LIKENESS, PoseReading, RenderPoseJudge, ToyName
from sd_toybox.model.pose_head import grid_azimuths
from sd_toybox.world.kinds import KINDS, toy
from sd_toybox.world.pictures import world_pictures
from sd_toybox.world.poses import POSES, pose_indices
from sd_toybox.world.toys import Toy
from world_views import cameras_at

JUDGE = RenderPoseJudge()


def distilled(views):
    """Smaller, off the middle, blurred, and with glaring colours."""
    zoom = torch.tensor([[1 / 0.92, 0.0, 0.04], [0.0, 1 / 0.92, -0.04]]).expand(len(views), 2, 3)
    moved = grid_sample(views - 1, affine_grid(zoom, views.shape), align_corners=False) + 1
    blurred = interpolate(interpolate(moved, 20, mode="area"), 64, mode="bilinear")
    grey = blurred.mean(dim=1, keepdim=True)
    return (1.1 * (grey + 1.5 * (blurred - grey)) - 0.05).clamp(0, 1)


@pytest.mark.filterwarnings("ignore:Default grid_sample and affine_grid behavior")
@pytest.mark.parametrize("spoilt", [torch.clone, distilled])
def test_the_pose_is_right_on_true_views_and_on_distorted_ones(spoilt):
    azimuth = tau * (torch.arange(30) + 0.37) / 30
    cameras = cameras_at(azimuth, radians(10))
    right = []
    for kind in KINDS:
        views = spoilt(world_pictures(kind, "green", cameras))
        reading = JUDGE.read(views, ToyName(kind, "green"), cameras)
        right.append((reading.poses == pose_indices(azimuth)).float().mean())
        apart = (reading.azimuth - azimuth + tau / 2).remainder(tau) - tau / 2
        assert apart.abs().median() < radians(8)
    assert min(right) >= 0.9
    assert torch.stack(right).mean() >= 0.95


def test_a_view_between_two_azimuths_belongs_to_both():
    cameras = ring()  # multiples of 15°, and the grid lies half way between
    reading = JUDGE.read(world_pictures("cat", "red", cameras), ToyName("cat", "red"), cameras)
    two = reading.posterior.sort(dim=1, descending=True).values[:, :2]
    assert two.sum(dim=1).min() > 0.6
    assert two.sum(dim=1).mean() > 0.95
    for view, posterior in enumerate(reading.posterior):
        assert set(posterior.topk(2).indices.tolist()) == {(view - 1) % 24, view}


def test_views_from_several_heights_are_each_judged_from_their_own():
    low, high = ring(8, 0.0), ring(8, 60.0)
    both = CameraBatch.concatenate([low, high]).select(list(range(15, -1, -1)))
    name = ToyName("robot", "blue")
    reading = JUDGE.read(world_pictures("robot", "blue", both), name, both)
    alone = [JUDGE.read(world_pictures("robot", "blue", some), name, some) for some in (low, high)]
    wanted = PoseReading.concatenate(alone)
    torch.testing.assert_close(reading.posterior, wanted.posterior.flip(0))
    torch.testing.assert_close(reading.likeness, wanted.likeness.flip(0))
    assert reading.poses.flip(0)[8:].tolist() == alone[1].poses.tolist()
    shown = pose_indices(grid_azimuths()[alone[1].posterior.argmax(dim=1)])
    assert shown[::2].tolist() == list(range(len(POSES)))  # even from 60° above


def test_likeness_tells_the_object_from_what_is_none():
    cameras, name = ring(8), ToyName("mug", "yellow")
    bare = Toy(tuple(type(part)(part.solid, part.paint) for part in toy("mug").parts))
    noise = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    likeness = {
        what: float(JUDGE.read(views, name, cameras).likeness.mean())
        for what, views in {
            "true": world_pictures("mug", "yellow", cameras),
            "bare": views_of(bare, "yellow", cameras),
            "noise": noise,
            "white": torch.ones(8, 3, 64, 64),
        }.items()
    }
    assert likeness["white"] == 0.0
    assert likeness["noise"] < 0.2 < likeness["bare"] < 0.6 < likeness["true"]
    assert not JUDGE.read(noise, name, cameras).seen.any()
    assert 0.2 < LEAST_LIKENESS < 0.6


def test_any_size_of_picture_will_do():
    cameras, name = ring(12), ToyName("bus", "pink")  # none at a border of two poses
    readings = [
        JUDGE.read(world_pictures("bus", "pink", cameras, pixels), name, cameras).poses.tolist()
        for pixels in (32, 50, 96)
    ]
    assert readings[0] == readings[1] == readings[2]
