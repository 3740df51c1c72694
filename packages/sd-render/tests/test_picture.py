"""The scene of pictures: it keeps its contract, shows what it should, and can be fitted."""

import math
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from picture_world import LATENTS, photograph, scene, views
from sd_core.camera_sampling import sample_cameras
from sd_core.cameras import turntable
from sd_core.config import Options
from sd_core.errors import ConfigError
from sd_core.testing.contracts import RendererContract
from sd_render.picture import Picture, PictureOptions, in_range


class TestWhole(RendererContract):
    def make(self, context):
        return Picture(PictureOptions(size=16), context)


class TestParticles(RendererContract):
    def make(self, context):
        return Picture(PictureOptions(size=16, count=4), context)


class TestCrop(RendererContract):
    def make(self, context):
        return Picture(PictureOptions(size=(32, 24), count=2, view="crop"), context)


class TestMask(RendererContract):
    def make(self, context):
        return Picture(PictureOptions(size=16, view="mask", fill="white"), context)


class TestLatents(RendererContract):
    latent_shape = LATENTS

    def make(self, context):
        return Picture(PictureOptions(space="latents", count=3), context)


class TestMaskedLatents(RendererContract):
    latent_shape = LATENTS

    def make(self, context):
        return Picture(PictureOptions(space="latents", view="mask"), context)


@pytest.mark.parametrize("start", [-4.0, 0.0, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("target", [0.0, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_a_pixel_comes_back_from_anywhere(start, target, rule):
    value = torch.full((1, 1, 1, 1), start, requires_grad=True)
    kind, rate = (torch.optim.SGD, 0.4) if rule == "sgd" else (torch.optim.Adam, 0.5)
    optimiser = kind([value], lr=rate)
    for _ in range(300):
        optimiser.zero_grad()
        (in_range(value) - target).square().sum().backward()
        optimiser.step()
    assert in_range(value).item() == pytest.approx(target, abs=1e-3)


def test_the_gradient_is_the_projected_one():
    def slope(value, gradient):
        values = torch.full((1, 1, 1, 1), value, requires_grad=True)
        in_range(values).backward(torch.full((1, 1, 1, 1), gradient))
        return values.grad.item()

    # Descent goes against the gradient: a negative one brightens.
    assert [slope(value, -2.0) for value in (-3.0, 0.0, 0.5, 1.0, 3.0)] == [-2, -2, -2, 0, 0]
    assert [slope(value, 2.0) for value in (-3.0, 0.0, 0.5, 1.0, 3.0)] == [0, 0, 2, 2, 2]


def test_inside_the_range_the_gradient_is_exact():
    values = photograph(3, 4).double()[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda v: in_range(v).sin(), (values,))


def test_a_pixel_does_not_wander_off_while_it_is_pushed_outwards():
    value = torch.full((1, 1, 1, 1), 0.9, requires_grad=True)
    optimiser = torch.optim.Adam([value], lr=0.01)
    for _ in range(1000):
        optimiser.zero_grad()
        (-in_range(value)).sum().backward()
        optimiser.step()
    assert 1 <= value.item() < 1.15


def test_what_is_rendered_is_in_range():
    picture = scene(size=8, start_spread=5.0)
    picture.values.data.mul_(3).sub_(1)
    images = picture(turntable(2)).images
    assert images.min() == 0 and images.max() == 1


def test_every_camera_sees_the_only_picture_whole():
    picture = scene(size=8)
    images = picture(views(picture, 5)).images
    assert torch.equal(images, picture.values.expand(5, -1, -1, -1))


def test_four_cameras_around_see_four_particles():
    picture = scene(size=8, count=4)
    # Azimuths 0°, 90°, 180°, 270°; the first sector begins at -180°.
    assert torch.equal(picture(turntable(4)).images, picture.values[[2, 3, 0, 1]])


def test_a_crop_is_a_smaller_picture():
    picture = scene(size=(32, 20), view="crop", window=0.25)
    images = picture(views(picture, 3)).images
    assert images.shape == (3, 3, 8, 5)


def test_a_small_window_is_at_least_a_pixel():
    assert scene(size=4, view="crop", window=0.01)(turntable(1)).images.shape == (1, 3, 1, 1)


@pytest.mark.parametrize(("fill", "level"), [("grey", 0.5), ("white", 1.0), ("black", 0.0)])
def test_a_mask_is_surrounded_by_the_fill(fill, level):
    picture = scene(size=8, view="mask", fill=fill, start_spread=0.0)
    picture.values.data.fill_(0.25)
    images = picture(views(picture, 3)).images
    assert images.shape == (3, 3, 8, 8)
    outside = images != 0.25
    assert (images[outside] == level).all()
    assert outside.flatten(1).double().mean(1).tolist() == [0.75] * 3


def test_a_mask_of_latents_is_theta_times_m():
    picture = scene(space="latents", view="mask", start_spread=0.0)
    picture.values.data.fill_(3.0)
    images = picture(views(picture, 3)).images
    assert images.flatten(1).sum(1).tolist() == [3.0 * 4 * 4 * 4] * 3
    assert set(images.unique().tolist()) == {0.0, 3.0}


def test_a_crop_of_latents_is_refused():
    with pytest.raises(ConfigError) as caught:
        scene(space="latents", view="crop")
    assert str(caught.value) == (
        "renderer 'picture': a crop of 4 × 4 latents is not what the prior diffuses, 8 × 8. Set "
        'view = "mask", or space = "pixels".'
    )
    assert scene(space="latents", view="crop", window=1.0)(turntable(1)).images.shape[1:] == LATENTS


def test_latents_of_a_prior_of_pictures_are_refused():
    with pytest.raises(ConfigError) as caught:
        scene((3, 16, 24), space="latents")
    assert str(caught.value) == (
        "renderer 'picture': this prior has no latents, it diffuses pictures of shape (3, 16, 24). "
        'Set space = "pixels" and size = [16, 24].'
    )


@pytest.mark.parametrize("view", ["whole", "crop", "mask"])
def test_previews_show_all_pictures_whole(view):
    picture = scene(size=8, count=3, view=view)
    picture.values.data.mul_(2)
    shown = picture.preview(turntable(7)).images
    assert torch.equal(shown, picture.values.clamp(0, 1))
    latents = scene(space="latents", count=2, view="mask")
    assert torch.equal(latents.preview(turntable(7)).images, latents.values)


def test_a_preview_does_not_move_with_the_scene():
    picture = scene(space="latents")
    shown = picture.preview(turntable(1)).images
    kept = shown.clone()
    picture.values.data.add_(1)
    assert torch.equal(shown, kept)


def test_its_cameras_stand_all_round_and_from_pole_to_pole():
    cameras = views(scene(size=4), 4000)
    assert len(sample_cameras(Picture.default_cameras, Generator().manual_seed(0))) == 1
    for angle, reach in ((cameras.azimuth, math.pi), (cameras.elevation, math.pi / 2)):
        assert -reach <= angle.min() < -0.99 * reach and 0.99 * reach < angle.max() <= reach
        quarters = angle.double().histc(4, -reach, reach)
        torch.testing.assert_close(quarters, torch.full_like(quarters, 1000), rtol=0, atol=100)


@pytest.mark.parametrize("view", ["crop", "mask"])
def test_a_picture_is_recovered_through_its_windows(view):
    target, picture = scene(size=12, view=view), scene(size=12, view=view)
    target.values.data.copy_(photograph(12, 12)[None].round(decimals=1))
    target.requires_grad_(False)
    optimiser = torch.optim.Adam(picture.parameters(), lr=0.05)
    generator = Generator().manual_seed(3)
    options = picture.default_cameras.model_copy(update={"batch": 64})
    for _ in range(150):
        cameras = sample_cameras(options, generator)
        error = picture(cameras).images - target(cameras).images
        optimiser.zero_grad()
        error.square().sum().backward()
        optimiser.step()
    mean_square = (picture.pictures - target.pictures).square().mean()
    assert -10 * mean_square.log10() > 40


def test_the_state_holds_the_pictures_and_nothing_else():
    picture = scene(size=8)
    assert list(picture.state_dict()) == ["values"]


@pytest.mark.parametrize(("count", "names"), [(1, ["a.png"]), (2, ["a_0.png", "a_1.png"])])
def test_pictures_are_written_as_they_are(count, names):
    picture = scene(size=(6, 4), count=count)
    files = picture.export("png", "a", Options()).files
    assert list(files) == names
    for name, values in zip(names, picture.pictures, strict=True):
        with Image.open(BytesIO(files[name])) as read:
            seen = torch.tensor(np.asarray(read) / 255).permute(2, 0, 1)
        assert (seen - values).abs().max() <= 0.5 / 255 + 1e-6


def test_latents_are_not_written():
    with pytest.raises(ConfigError, match=r"only its prior .* final/contact_sheet\.png"):
        scene(space="latents").export("png", "a", Options())
