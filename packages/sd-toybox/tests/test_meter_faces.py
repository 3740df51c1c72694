"""What is made of poses around the orbit."""

from math import log, radians, tau

import pytest
import torch

from sd_toybox.meter.faces import (
    NO_POSE,
    best_azimuths,
    best_poses,
    consistency,
    face_count,
    pose_entropy,
    pose_shares,
    without_flicker,
)


def marked(text):
    """'f' is a frontal view, any other sign is not."""
    return torch.tensor([sign == "f" for sign in text])


def test_the_best_pose_has_the_largest_sum_and_not_the_largest_azimuth():
    posterior = torch.zeros(3, 24)
    posterior[0, 5] = 0.4  # 82.5°: right has one large share,
    posterior[0, [22, 1]] = 0.3  # front two that are smaller, on both sides of 0
    posterior[1, 11] = 1.0  # 172.5°
    posterior[2, 18] = 1.0  # 277.5°
    assert best_poses(posterior).tolist() == [0, 2, 3]
    wanted = torch.tensor([radians(82.5), radians(172.5), radians(277.5)])
    torch.testing.assert_close(best_azimuths(posterior), wanted)


def test_every_pose_has_the_six_azimuths_within_45_degrees_of_its_middle():
    poses = best_poses(torch.eye(24)).tolist()
    assert poses == [0] * 3 + [1] * 6 + [2] * 6 + [3] * 6 + [0] * 3


def test_views_that_show_nothing_are_in_no_share():
    poses = torch.tensor([0, 0, 1, 3, NO_POSE])
    assert pose_shares(poses).tolist() == pytest.approx([0.4, 0.2, 0.0, 0.2])


def test_the_entropy_is_that_of_the_views_that_show_something():
    assert pose_entropy(torch.full((4,), 0.25)) == pytest.approx(log(4))
    assert pose_entropy(torch.full((4,), 0.125)) == pytest.approx(log(4))
    assert pose_entropy(torch.tensor([0.5, 0.25, 0.0, 0.25])) == pytest.approx(1.5 * log(2))
    assert pose_entropy(torch.tensor([0.0, 1.0, 0.0, 0.0])) == 0.0
    assert pose_entropy(torch.zeros(4)) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_consistency_is_the_largest_over_rotations_and_mirrors(seed):
    generator = torch.Generator().manual_seed(seed)
    azimuth, noise = tau * torch.rand(2, 12, generator=generator, dtype=torch.float64)
    estimated = -azimuth + 0.4 * noise if seed % 2 else 2.0 + azimuth + 0.4 * noise
    turns = torch.arange(20_000, dtype=torch.float64) * (tau / 20_000)
    by_hand = max(
        float((estimated - mirror * azimuth - turns[:, None]).cos().mean(dim=1).max())
        for mirror in (1, -1)
    )
    seen = torch.ones(12, dtype=torch.bool)
    assert consistency(estimated, azimuth, seen) == pytest.approx(by_hand, abs=1e-7)


def test_consistency_is_one_for_what_turns_along_and_zero_for_what_does_not():
    azimuth = torch.arange(24, dtype=torch.float64) * (tau / 24)
    seen = torch.ones(24, dtype=torch.bool)
    assert consistency(azimuth + 1.3, azimuth, seen) == pytest.approx(1.0)
    assert consistency(5.0 - azimuth, azimuth, seen) == pytest.approx(1.0)
    assert consistency(torch.full_like(azimuth, 0.3), azimuth, seen) == pytest.approx(0.0, abs=1e-9)
    assert consistency(azimuth[:0], azimuth[:0], seen[:0]) == 0.0


def test_what_shows_nothing_follows_nothing():
    azimuth = torch.arange(24, dtype=torch.float64) * (tau / 24)
    seen = torch.arange(24) < 18
    assert consistency(azimuth, azimuth, seen) == pytest.approx(0.75)
    assert consistency(azimuth, azimuth, torch.zeros(24, dtype=torch.bool)) == 0.0


FACES = {
    "......fffff.............": 1,  # 75°
    "......fffffff...........": 1,  # 105°
    "......fff...............": 1,  # 45°: a narrow face is one
    "......fffffffff.........": 1,  # 135°: the half goes down
    "......ffffffffff........": 2,  # 150°
    "......ffffffffffffffff..": 3,  # 240°
    "ffffffffffffffffffffff..": 4,  # 330°
    "ffffff......ffffff......": 2,
    "ffffff..ffffff..ffffff..": 3,
    "........................": 0,
    "ffffffffffffffffffffffff": 4,
    "......f.................": 0,  # one view is a flicker
    "ffffff.ffffff...........": 2,  # a gap of one view too: 195°
    "..f..fffff..............": 1,
}


@pytest.mark.parametrize(("views", "faces"), FACES.items())
def test_faces_are_arcs_of_frontal_views(views, faces):
    frontal = marked(views)
    counts = {face_count(frontal.roll(turn)) for turn in range(24)}
    counts |= {face_count(frontal.flip(0).roll(turn)) for turn in range(24)}
    assert counts == {faces}


@pytest.mark.parametrize(
    ("views", "faces"), [("f.....ff", 1), ("ff....ff", 2), ("f.......", 1), ("fff.f...", 2)]
)
def test_a_coarse_ring_is_taken_as_it_is(views, faces):
    assert face_count(marked(views)) == faces


def test_a_flicker_is_as_wide_whatever_the_number_of_views():
    """15°: one view of 24, two of 48; a gap of 30° between faces stays."""
    views = marked("f" * 20 + "." * 4 + "f" * 8 + ".." + "f" * 4 + "." * 10)
    assert len(views) == 48
    assert torch.equal(without_flicker(views), marked("f" * 20 + "." * 4 + "f" * 14 + "." * 10))
    coarse = marked("ff.f....")
    assert torch.equal(without_flicker(coarse), coarse)
