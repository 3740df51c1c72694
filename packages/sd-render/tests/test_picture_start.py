"""What a scene of pictures begins as: noise, an image, or the scene of the stage before."""

import json
from pathlib import Path

import pytest
import torch

from picture_world import context, file_of, scene
from sd_core.cli import main
from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.renderers.affine import Affine, AffineOptions
from sd_render.picture import Picture, PictureOptions


def test_pixels_begin_as_mild_noise_about_grey():
    values = scene(size=64).values
    assert values.shape == (1, 3, 64, 64)
    assert values.mean().item() == pytest.approx(0.5, abs=0.01)
    assert values.std().item() == pytest.approx(0.2, abs=0.01)
    assert values.min() >= 0 and values.max() <= 1


def test_latents_begin_as_standard_normal_noise():
    values = scene((4, 32, 32), space="latents", count=2).values
    assert values.shape == (2, 4, 32, 32)
    assert values.mean().item() == pytest.approx(0, abs=0.05)
    assert values.std().item() == pytest.approx(1, abs=0.05)
    assert values.min() < -2 and values.max() > 2


def test_the_noise_has_the_spread_that_is_asked_for():
    assert torch.equal(scene(size=8, start_spread=0.0).values, torch.full((1, 3, 8, 8), 0.5))
    wide = scene((4, 32, 32), space="latents", start_spread=3.0).values
    assert wide.std().item() == pytest.approx(3, abs=0.15)


def test_particles_begin_differently():
    first, second = scene(size=8, count=2).values
    assert not torch.equal(first, second)


def test_the_default_size_is_64_and_two_sides_are_height_and_width():
    assert scene().values.shape == (1, 3, 64, 64)
    assert scene(size=(4, 6)).values.shape == (1, 3, 4, 6)


def test_an_image_is_what_every_particle_begins_as(tmp_path):
    path, image = file_of(tmp_path, 8, 12)
    values = scene(size=(8, 12), count=2, image=path).values
    torch.testing.assert_close(values.data, image.expand(2, -1, -1, -1))


def test_noise_about_an_image_sets_particles_apart(tmp_path):
    path, image = file_of(tmp_path, 8, 8)
    first, second = scene(size=8, count=2, image=path, start_spread=0.1).values.data
    assert not torch.equal(first, second)
    inside = (image > 0.3) & (image < 0.7)
    assert (first - image)[inside].std().item() == pytest.approx(0.1, abs=0.03)


def test_a_run_needs_its_image_only_to_begin(tmp_path):
    path, _ = file_of(tmp_path, 8, 8)
    bank, run = tmp_path / "bank", tmp_path / "run"
    bank.mkdir()
    (bank / "captions.json").write_text(json.dumps({Path(file_of(bank, 8, 8)[0]).name: "noise"}))
    told = [f"prior.folder={bank}", f"renderer.image={path}", "renderer.size=8", "steps=2"]
    words = [word for each in [*told, "run.checkpoint_every=1"] for word in ("--set", each)]
    names = ["--prompt", "noise", "--prior", "image-bank", "--renderer", "picture"]
    assert main(["run", *names, *words, "--output", str(run), "--quiet"]) == 0
    Path(path).unlink()
    assert main(["export", str(run), "--to", "png"]) == 0
    assert main(["resume", str(run), "--previous", "--quiet"]) == 0


def test_an_image_of_another_size_is_fitted_as_asked(tmp_path):
    path, image = file_of(tmp_path, 8, 12)
    with pytest.raises(ConfigError, match=r"8 pixels high and 12 wide.* wants 8 high and 8 wide"):
        scene(size=8, image=path)
    middle = scene(size=8, image=path, fit="crop").values.data
    torch.testing.assert_close(middle[0], image[:, :, 2:10])
    assert scene(size=8, image=path, fit="resize").values.shape == (1, 3, 8, 8)


def test_a_path_is_the_same_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert PictureOptions(image="a/b.png").image == str(tmp_path / "a" / "b.png")


def mean_of_blocks(images):
    """An encoder: 4 channels from the means of 4 × 4 blocks."""
    means = torch.nn.functional.avg_pool2d(images, 4)
    return torch.cat([means, means[:, :1]], dim=1)


def test_latents_begin_as_what_the_prior_makes_of_an_image(tmp_path):
    path, image = file_of(tmp_path, 32, 32)
    options = PictureOptions(space="latents", image=path, count=2)
    picture = Picture(options, context(encode=mean_of_blocks))
    assert not picture.values.grad_fn
    torch.testing.assert_close(picture.values.data, mean_of_blocks(image[None]).repeat(2, 1, 1, 1))


def test_an_image_for_latents_must_have_their_proportions(tmp_path):
    path, image = file_of(tmp_path, 32, 48)
    options = PictureOptions(space="latents", image=path)
    with pytest.raises(ConfigError, match=r"32 pixels high and 48 wide.* 32 high and 32 wide"):
        Picture(options, context(encode=mean_of_blocks))
    middle = options.model_copy(update={"fit": "crop"})
    values = Picture(middle, context(encode=mean_of_blocks)).values.data
    torch.testing.assert_close(values, mean_of_blocks(image[None, :, :, 8:40]))


def test_a_prior_that_cannot_encode_an_image_is_named(tmp_path):
    path, _ = file_of(tmp_path, 8, 8)
    with pytest.raises(ConfigError) as caught:
        scene(space="latents", image=path)
    assert str(caught.value) == (
        "renderer 'picture': the prior makes (3, 8, 8) of the image, but its latents are "
        '(4, 8, 8). Set space = "pixels", where it encodes each view.'
    )


def test_a_stage_goes_on_from_the_picture_before_in_more_pixels():
    small = scene(size=8, count=2)
    small.values.data.copy_(torch.linspace(0.2, 0.8, 8).expand(2, 3, 8, 8))
    large = scene(size=32, count=2, previous=small).values.data
    assert large.shape == (2, 3, 32, 32)
    # Each block of 4 × 4 has the level of its old pixel, away from the borders.
    blocks = torch.nn.functional.avg_pool2d(large, 4)
    torch.testing.assert_close(
        blocks[..., 2:-2, 2:-2], small.values.data[..., 2:-2, 2:-2], rtol=0, atol=1e-3
    )


def test_a_stage_of_the_same_size_goes_on_from_the_same_bits():
    for options in ({"size": 8, "count": 2}, {"space": "latents", "count": 2}):
        before = scene(**options)
        after = scene(previous=before, **options)
        assert torch.equal(after.values, before.values)
        after.values.data.add_(0.1)
        assert not torch.equal(after.values, before.values)


def test_one_picture_becomes_several_particles():
    before = scene(size=8)
    after = scene(size=8, count=3, previous=before, start_spread=0.05).values.data
    for particle in after:
        assert 0 < (particle - before.values.data[0]).abs().mean() < 0.1


def test_another_count_of_pictures_is_refused():
    with pytest.raises(ConfigError) as caught:
        scene(size=8, count=3, previous=scene(size=8, count=2))
    assert str(caught.value) == (
        "renderer 'picture': count is 3, but the scene before has 2 pictures. Set count = 2, or "
        'start_from = "scratch".'
    )


def test_pixels_before_become_latents_but_not_the_other_way_round():
    pixels = scene(size=32)
    options = PictureOptions(space="latents")
    encoded = Picture(options, context(encode=mean_of_blocks, previous=pixels)).values.data
    torch.testing.assert_close(encoded, mean_of_blocks(pixels.values.data))
    with pytest.raises(ConfigError) as caught:
        scene(size=32, previous=scene(space="latents"))
    assert str(caught.value) == (
        "renderer 'picture': the scene before is latents, which cannot become pixels. Set space = "
        '"latents", or start_from = "scratch".'
    )


def test_a_scene_of_another_kind_before_is_refused():
    points = Affine(AffineOptions(), context((2, 1, 1)))
    with pytest.raises(ConfigError) as caught:
        scene(previous=points)
    assert str(caught.value) == (
        "renderer 'picture' cannot start from a scene of class Affine. Set start_from = "
        '"scratch" in this stage.'
    )


def test_an_image_and_a_scene_before_are_one_too_many(tmp_path):
    path, _ = file_of(tmp_path, 8, 8)
    with pytest.raises(ConfigError) as caught:
        scene(size=8, image=path, previous=scene(size=8))
    assert str(caught.value) == (
        "renderer 'picture': image is set, but this stage starts from the scene before. Leave "
        'image out, or set start_from = "scratch" in this stage.'
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"space": "latents", "size": 8},
            "renderer: size is set, but the prior says how large latents are. Leave size out, or "
            'set space = "pixels".',
        ),
        (
            {"space": "latents", "fill": "white"},
            'renderer: fill is "white", but latents have no white: outside the window they are 0. '
            'Leave fill out, or set space = "pixels".',
        ),
        *(
            (
                {"size": size},
                f"renderer.size: {size!r} is not a size. Write a side in pixels, such as 64, or "
                "[height, width], such as [64, 96].",
            )
            for size in (0, True, "big", [64], [64, 0], [1, 2, 3], 6.5)
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        parse_options(PictureOptions, options, where="renderer")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            {"window": 0.25},
            "renderer: window is 0.25, but the view is whole. Leave window out, or set view = "
            '"crop" or "mask".',
        ),
        (
            {"fill": "black"},
            'renderer: fill is "black", but only a masked window is surrounded. Leave fill out, or '
            'set view = "mask".',
        ),
        (
            {"view": "crop", "fill": "black"},
            'renderer: fill is "black", but only a masked window is surrounded. Leave fill out, or '
            'set view = "mask".',
        ),
        (
            {"fit": "crop"},
            'renderer: fit is "crop", but there is no image to fit. Leave fit out, or name the '
            "file as image.",
        ),
    ],
)
def test_what_would_do_nothing_is_refused(told, message):
    with pytest.raises(ConfigError) as caught:
        parse_options(PictureOptions, told, where="renderer")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "told",
    [
        *({"size": size} for size in (None, 8, [8, 12])),
        {"view": "crop", "window": 0.25},
        {"view": "mask", "window": 0.25, "fill": "white"},
        {"image": "/a.png", "fit": "crop"},
        {"space": "latents"},
    ],
)
def test_options_survive_being_written_down(told):
    options = parse_options(PictureOptions, told, where="renderer")
    assert parse_options(PictureOptions, options.resolved({}), where="renderer") == options
