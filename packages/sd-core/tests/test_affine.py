"""The scene of points: cameras become a standard normal, views the Gaussian N(b, A·Aᵀ)."""

import math

import pytest
import torch
from torch import Generator

from sd_core.camera_sampling import sample_cameras
from sd_core.cameras import orbit_cameras
from sd_core.errors import ConfigError
from sd_core.renderer import RendererContext
from sd_core.renderers.affine import PREVIEW_PIXELS, Affine, AffineOptions, normal_from_cameras

COUNT = 40_000


def scene(shape=(2, 1, 1), **options):
    context = RendererContext(shape, Generator(), torch.device("cpu"))
    return Affine(AffineOptions(**options), context)


def cameras(count=COUNT):
    options = Affine.default_cameras.model_copy(update={"batch": count})
    return sample_cameras(options, Generator().manual_seed(0))


def test_its_own_cameras_become_a_standard_normal():
    normal = normal_from_cameras(cameras()).double()
    torch.testing.assert_close(normal.mean(0), torch.zeros(2).double(), rtol=0, atol=0.02)
    torch.testing.assert_close(normal.T.cov(), torch.eye(2).double(), rtol=0, atol=0.02)
    # Not the moments alone: the share within one and two standard deviations.
    for reach in (1.0, 2.0):
        share = (normal.abs() < reach).double().mean(0)
        expected = torch.full((2,), math.erf(reach / math.sqrt(2))).double()
        torch.testing.assert_close(share, expected, rtol=0, atol=0.01)


def test_the_transform_is_box_mullers():
    azimuth, elevation = torch.tensor([0.3, -2.0, 3.0]), torch.tensor([-0.4, 0.0, 1.2])
    views = orbit_cameras(
        azimuth=azimuth, elevation=elevation, distance=torch.ones(3), vertical_fov=torch.ones(3)
    )
    for (x, y), a, e in zip(normal_from_cameras(views), azimuth, elevation, strict=True):
        radius = math.sqrt(-2 * math.log((1 + math.sin(e)) / 2))
        assert float(x) == pytest.approx(radius * math.cos(a), abs=1e-6)
        assert float(y) == pytest.approx(radius * math.sin(a), abs=1e-6)


def test_cameras_at_the_poles_are_finite():
    elevation = torch.tensor([-math.pi / 2, math.pi / 2])
    ones = torch.ones(2)
    views = orbit_cameras(azimuth=ones, elevation=elevation, distance=ones, vertical_fov=ones)
    assert normal_from_cameras(views).isfinite().all()


def test_views_have_mean_b_and_covariance_a_at():
    affine = scene(mean=(1.0, -2.0))
    matrix = torch.tensor([[0.5, 0.3], [-0.2, 1.5]])
    affine.matrix.data.copy_(matrix)
    points = affine(cameras()).images.detach().flatten(1).double()
    mean, covariance = torch.tensor([1.0, -2.0]).double(), (matrix @ matrix.T).double()
    torch.testing.assert_close(points.mean(0), mean, rtol=0, atol=0.03)
    torch.testing.assert_close(points.T.cov(), covariance, rtol=0, atol=0.05)


def test_a_preview_shows_the_points_where_they_are():
    affine = scene(mean=(2.5, 0.0), spread=0.01, view_extent=5.0)
    (picture,) = affine.preview(cameras(1)).images
    rows, columns = (picture[0] < 1).nonzero().unbind(1)
    assert rows.float().mean() == pytest.approx(0.5 * PREVIEW_PIXELS, abs=2)
    assert columns.float().mean() == pytest.approx(0.75 * PREVIEW_PIXELS, abs=2)


def test_a_prior_of_pictures_is_refused():
    with pytest.raises(ConfigError) as caught:
        scene(shape=(3, 8, 8))
    assert str(caught.value) == (
        "renderer 'affine' draws points of shape (2, 1, 1), but the prior's are (3, 8, 8). "
        "Choose another renderer, or a prior of points."
    )
