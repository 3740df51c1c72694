"""The pose head: what it should say, and its file."""

from math import pi, tau

import pytest
import torch

from sd_core.errors import ConfigError
from sd_toybox.model.folders import CLIP
from sd_toybox.model.pose_head import (
    AZIMUTHS,
    azimuth_shares,
    grid_azimuths,
    load_pose_head,
)
from sd_toybox.world.poses import pose_indices


def test_shares_are_a_distribution_around_the_azimuth():
    azimuth = torch.linspace(-4 * pi, 4 * pi, 1001, dtype=torch.float64)
    shares = azimuth_shares(azimuth)
    torch.testing.assert_close(shares.sum(1), torch.ones(1001, dtype=torch.float64))
    around = (torch.arange(AZIMUTHS, dtype=torch.float64) + 0.5) * (tau / AZIMUTHS)
    # The mean direction of two bins at most 15° apart is off by no more than 0.1°.
    mean = torch.atan2(shares @ around.sin(), shares @ around.cos())
    off = torch.remainder(mean - azimuth + pi, tau) - pi
    assert off.abs().max() < 0.002


def test_at_a_bin_all_is_in_it_and_between_two_a_half_in_each():
    shares = azimuth_shares(torch.tensor([7.5, 360.0, 367.5]).deg2rad())
    expected = torch.zeros(3, AZIMUTHS)
    expected[0, 0] = expected[2, 0] = 1
    expected[1, 0] = expected[1, 23] = 0.5
    torch.testing.assert_close(shares, expected, rtol=0, atol=1e-5)


def test_each_pose_has_six_azimuths_none_of_them_between_two_poses():
    azimuths = grid_azimuths()
    assert pose_indices(azimuths).bincount().tolist() == [6, 6, 6, 6]
    between = (azimuths - pi / 4).remainder(pi / 2)
    assert torch.minimum(between, pi / 2 - between).min() > 0.1
    assert torch.equal(azimuth_shares(azimuths).round(), torch.eye(AZIMUTHS))


def test_a_saved_head_reads_the_vectors_of_its_clip_model(model_folder):
    head = load_pose_head(model_folder / CLIP)
    assert head.weight.dtype == torch.float32
    assert head(torch.zeros(2, head.in_features)).shape == (2, AZIMUTHS)


def test_a_folder_without_a_head_is_said_so(tmp_path):
    with pytest.raises(ConfigError, match=r"no pose_head\.safetensors.*python -m sd_toybox\.train"):
        load_pose_head(tmp_path)
