"""Which picture and which window a camera sees, against slices cut one by one."""

import math

import pytest
import torch
from torch import Generator

from sd_core.camera_sampling import sample_cameras
from sd_core.cameras import orbit_cameras, turntable
from sd_render.crops import crops, masked, views_of
from sd_render.picture import Picture

SIZE, WINDOW = (9, 12), (4, 5)


def cameras_at(*degrees, dtype=torch.float32):
    azimuth, elevation = torch.tensor(degrees, dtype=torch.float64).deg2rad().to(dtype).unbind(1)
    ones = torch.ones_like(azimuth)
    return orbit_cameras(azimuth=azimuth, elevation=elevation, distance=ones, vertical_fov=ones)


def its_own_cameras(count):
    options = Picture.default_cameras.model_copy(
        update={"batch": count, "stratified_azimuth": False}
    )
    return sample_cameras(options, Generator().manual_seed(0))


def numbered(count=1, size=SIZE, channels=2):
    """Every value another whole number."""
    shape = (count, channels, *size)
    return torch.arange(math.prod(shape), dtype=torch.float64).view(shape)


def corner_of(azimuth_deg, elevation_deg, count):
    """The formula for one camera, in plain Python: particle, row and column."""
    sectors = count * ((azimuth_deg + 180) % 360) / 360
    across, down = sectors % 1, (90 - elevation_deg) / 180
    row = min(math.floor(down * (SIZE[0] - WINDOW[0] + 1)), SIZE[0] - WINDOW[0])
    column = min(math.floor(across * (SIZE[1] - WINDOW[1] + 1)), SIZE[1] - WINDOW[1])
    return math.floor(sectors), row, column


def slices(pictures, degrees):
    views = []
    for azimuth, elevation in degrees:
        particle, row, column = corner_of(azimuth, elevation, len(pictures))
        views.append(pictures[particle, :, row : row + WINDOW[0], column : column + WINDOW[1]])
    return torch.stack(views)


SOME = [(-179.9, 89.9), (-123.4, 0.1), (-1.7, -56.7), (33.3, 71.2), (100.1, -89.0), (500.0, 12.3)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_crop_is_the_slice_that_the_formula_names(count):
    pictures = numbered(count)
    seen = crops(pictures, views_of(cameras_at(*SOME), count), WINDOW)
    assert torch.equal(seen, slices(pictures, SOME))


def test_each_quarter_of_the_turn_shows_another_of_four_pictures():
    at = [(-180.0, 0.0), (-90.0, 0.0), (0.0, 0.0), (90.0, 0.0), (179.9, 0.0)]
    assert views_of(cameras_at(*at), 4).particle.tolist() == [0, 1, 2, 3, 3]


@pytest.mark.parametrize("count", range(1, 13))
def test_a_camera_on_a_border_is_in_the_sector_that_begins_there(count):
    # However the angle was rounded: from degrees, in radians, in single precision or in double.
    at = [(360 * k / count - 180, 0.0) for k in range(count)]
    for dtype in (torch.float32, torch.float64):
        assert views_of(cameras_at(*at, dtype=dtype), count).particle.tolist() == list(range(count))


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_a_turntable_shows_every_picture_equally_often(count):
    shown = views_of(turntable(12), count).particle.bincount(minlength=count)
    assert shown.tolist() == [12 // count] * count


def test_whole_turns_change_nothing():
    once, later = cameras_at(*SOME), cameras_at(*((a - 720, e) for a, e in SOME))
    for name in ("particle", "across", "down"):
        assert torch.equal(getattr(views_of(once, 3), name), getattr(views_of(later, 3), name))


def test_all_four_corners_are_reached():
    picture, nearly = numbered(), 179.999
    at = [(-180.0, 90.0), (nearly, 90.0), (-180.0, -90.0), (nearly, -90.0)]
    seen = crops(picture, views_of(cameras_at(*at), 1), WINDOW)
    assert torch.equal(seen[0, :, 0, 0], picture[0, :, 0, 0])
    assert torch.equal(seen[1, :, 0, -1], picture[0, :, 0, -1])
    assert torch.equal(seen[2, :, -1, 0], picture[0, :, -1, 0])
    assert torch.equal(seen[3, :, -1, -1], picture[0, :, -1, -1])


def test_its_own_cameras_see_every_window_equally_often():
    first = crops(numbered(channels=1), views_of(its_own_cameras(20_000), 1), WINDOW)[:, 0, 0, 0]
    _, times = first.unique(return_counts=True)
    positions = (SIZE[0] - WINDOW[0] + 1) * (SIZE[1] - WINDOW[1] + 1)
    assert len(times) == positions
    expected = 20_000 / positions
    chi_square = ((times - expected) ** 2 / expected).sum()
    assert chi_square < positions + 4 * math.sqrt(2 * positions)


def test_a_pixel_gets_a_gradient_from_each_window_that_it_lies_in():
    pictures = numbered(3).requires_grad_()
    crops(pictures, views_of(cameras_at(*SOME), 3), WINDOW).sum().backward()
    times = torch.zeros_like(pictures)
    for azimuth, elevation in SOME:
        particle, row, column = corner_of(azimuth, elevation, 3)
        times[particle, :, row : row + WINDOW[0], column : column + WINDOW[1]] += 1
    assert torch.equal(pictures.grad, times)


def test_a_mask_keeps_the_crop_in_its_place_and_fills_the_rest():
    pictures, views = numbered(3) + 1, views_of(cameras_at(*SOME), 3)
    seen = masked(pictures, views, window=WINDOW, fill=-7.0)
    assert seen.shape == (len(SOME), 2, *SIZE)
    for view, (azimuth, elevation) in zip(seen, SOME, strict=True):
        particle, row, column = corner_of(azimuth, elevation, 3)
        expected = torch.full_like(view, -7.0)
        window = (slice(None), slice(row, row + WINDOW[0]), slice(column, column + WINDOW[1]))
        expected[window] = pictures[particle][window]
        assert torch.equal(view, expected)


def test_only_the_window_of_a_mask_gets_a_gradient():
    pictures, views = numbered().requires_grad_(), views_of(cameras_at((0.0, 0.0)), 1)
    masked(pictures, views, window=WINDOW, fill=0.5).sum().backward()
    assert pictures.grad.sum() == 2 * WINDOW[0] * WINDOW[1]
    assert set(pictures.grad.unique().tolist()) == {0.0, 1.0}


def test_a_window_as_large_as_the_picture_is_the_picture():
    pictures, views = numbered(2), views_of(cameras_at(*SOME), 2)
    whole = pictures[views.particle]
    assert torch.equal(crops(pictures, views, SIZE), whole)
    assert torch.equal(masked(pictures, views, window=SIZE, fill=0.0), whole)
