"""Disturbed copies: what each disturbance leaves, by hand and by counting."""

import colorsys
from math import pi

import pytest
import torch
from torch import Generator

from sd_guidance_usd.augmentation import (
    affine,
    colour_jitter,
    grey,
    noise_and_shape,
    random_affine,
    random_grey,
    random_noise,
    turn_hue,
)


def pictures(batch=3, height=8, width=10, seed=0):
    return torch.rand(batch, 3, height, width, generator=Generator().manual_seed(seed))


def moved(images, *, size=1.0, slope=0.0, right=0.0, down=0.0):
    each = [torch.full((len(images),), value) for value in (size, slope, right, down)]
    return affine(images, size=each[0], slope=each[1], right=each[2], down=each[3])


def dot(x, y, side=41):
    """A Gaussian dot at (x, y), y down, in units of the picture from its middle."""
    axis = (torch.arange(side) + 0.5) / side - 0.5
    away = (axis[None] - x).square() + (axis[:, None] - y).square()
    return (-away / (2 * 0.04**2)).exp().expand(1, 3, side, side)


def centre(picture):
    """The centre of mass in the same units."""
    mass = picture[0, 0]
    down, right = ((torch.arange(side) + 0.5) / side - 0.5 for side in mass.shape)
    total = mass.sum()
    return float((mass * right).sum() / total), float((mass * down[:, None]).sum() / total)


def test_nothing_moved_is_the_picture():
    torch.testing.assert_close(moved(pictures()), pictures())


def test_a_shift_by_whole_pixels_repeats_the_border():
    images = pictures()
    shifted = moved(images, right=0.2, down=-0.125)  # 2 of 10 to the right, 1 of 8 up
    torch.testing.assert_close(shifted[:, :, :-1, 2:], images[:, :, 1:, :-2])
    torch.testing.assert_close(shifted[:, :, :-1, 0], images[:, :, 1:, 0])
    torch.testing.assert_close(shifted[:, :, -1, 2:], images[:, :, -1, :-2])


def test_a_point_goes_where_the_formula_says():
    x, y = 0.12, -0.1
    size, slope, right, down = 0.8, 0.3, 0.1, 0.15
    found = centre(moved(dot(x, y), size=size, slope=slope, right=right, down=down))
    expected = size * (x + slope * y) + right, size * y + down
    assert found == pytest.approx(expected, abs=2e-3)


def test_a_random_affine_moves_a_point_within_its_bounds_and_both_ways():
    images = dot(0.0, 0.0).expand(200, -1, -1, -1)
    found = random_affine(images, Generator().manual_seed(1))
    xs, ys = zip(*(centre(picture[None]) for picture in found), strict=True)
    for places in (xs, ys):
        assert max(map(abs, places)) < 0.21
        assert min(places) < -0.15 and max(places) > 0.15


def test_a_random_affine_shears_either_way_by_one_to_five_degrees():
    upright = dot(0.0, -0.2) + dot(0.0, 0.2)
    found = random_affine(
        upright.expand(200, -1, -1, -1), Generator().manual_seed(2), shift=0.0, scale=(1.0, 1.0)
    )
    lean = torch.tensor([centre(picture[None, :, :20])[0] for picture in found])
    low, high = 0.2 * torch.tensor([1.0, 5.0]).deg2rad().tan()
    assert (lean.abs() > 0.7 * low).all() and (lean.abs() < 1.1 * high).all()
    assert 70 < (lean > 0).sum() < 130


def test_grey_pictures_have_the_luma_of_itu_601():
    images = pictures()
    red, green, blue = images.unbind(dim=1)
    torch.testing.assert_close(grey(images)[:, 0], 0.299 * red + 0.587 * green + 0.114 * blue)


def test_so_many_pictures_as_asked_lose_their_colours():
    images = pictures(batch=400)
    found = random_grey(images, Generator().manual_seed(3), probability=0.2)
    without = (found - found.mean(dim=1, keepdim=True)).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert 50 < without.sum() < 110
    assert torch.equal(found[~without], images[~without])


def test_so_many_pictures_as_asked_get_noise_of_sigma():
    images = torch.full((400, 3, 8, 8), 0.5)
    found = random_noise(images, Generator().manual_seed(4), sigma=0.1, probability=0.5)
    noisy = (found != images).any(dim=3).any(dim=2).any(dim=1)
    assert 160 < noisy.sum() < 240
    assert float((found[noisy] - 0.5).std()) == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("turn", [0.0, 1 / 3, 2 / 3, 1.0])
def test_hue_turned_by_a_third_rotates_the_channels(turn):
    images = pictures()
    angle = torch.full((3,), 2 * pi * turn)
    expected = images.roll(round(3 * turn), dims=1)  # red becomes green
    torch.testing.assert_close(turn_hue(images, angle), expected, atol=1e-5, rtol=0)


def test_a_turned_hue_is_near_that_of_the_colour_circle_and_leaves_grey():
    colour = torch.tensor([0.7, 0.4, 0.45])[None, :, None, None]
    turned = turn_hue(colour, torch.tensor([2 * pi * 0.1]))[0, :, 0, 0].tolist()
    before, after = (colorsys.rgb_to_hsv(*rgb)[0] for rgb in (colour[0, :, 0, 0].tolist(), turned))
    assert (after - before) % 1 == pytest.approx(0.1, abs=0.02)
    plain = torch.full((1, 3, 2, 2), 0.3)
    torch.testing.assert_close(turn_hue(plain, torch.tensor([1.0])), plain)


def test_jitter_keeps_every_thing_in_its_place():
    images = torch.zeros(50, 3, 8, 8)
    images[:, :, 2:5, 3:6] = torch.tensor([0.8, 0.5, 0.4])[:, None, None]
    found = colour_jitter(images, Generator().manual_seed(5))
    inside, outside = found[:, :, 2:5, 3:6], found[:, :, 6:]
    torch.testing.assert_close(inside, inside[:, :, :1, :1].expand_as(inside))
    assert (outside == outside[:, :, :1, :1]).all()
    assert (inside.mean(dim=(1, 2, 3)) > outside.mean(dim=(1, 2, 3)) + 0.2).all()


def test_jitter_changes_brightness_and_colour_of_each_picture_by_itself():
    images = pictures(batch=1).expand(60, -1, -1, -1)
    found = colour_jitter(images, Generator().manual_seed(6))
    brightness = grey(found).mean(dim=(1, 2, 3)) / grey(images).mean()
    assert brightness.min() < 0.9 and brightness.max() > 1.08
    assert (brightness - 1).abs().max() < 0.25
    tint = (found[:, 0] - found[:, 1]).flatten(1)
    assert len(torch.unique(tint[:, 0])) == 60


@pytest.mark.parametrize("disturb", [noise_and_shape, colour_jitter])
def test_copies_are_in_range_equal_for_equal_seeds_and_never_mirrored(disturb):
    images = dot(-0.25, 0.0).expand(100, -1, -1, -1)
    first, second = (disturb(images, Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert first.min() >= 0 and first.max() <= 1
    smooth = torch.nn.functional.avg_pool2d(first, 5, stride=1).mean(dim=(1, 2))
    assert (smooth.argmax(dim=1) < smooth.shape[1] // 2 + 2).all()  # at the left, as it was
