"""Each word of corruption changes a picture in its own direction."""

from math import pi

import pytest
import torch
from torch import Generator
from torch.nn import functional as F

from sd_toybox.world import corruptions
from sd_toybox.world.captions import CORRUPTION_WORDS, PAINTING
from sd_toybox.world.corruptions import corrupted
from sd_toybox.world.kinds import KINDS
from sd_toybox.world.pictures import world_pictures
from world_views import cameras_at

ALL = (*CORRUPTION_WORDS, PAINTING)


@pytest.fixture(scope="module", name="clean")
def clean_pictures():
    cameras = cameras_at([0.0, pi / 2], 0.2)
    return torch.cat([world_pictures(kind, "purple", cameras) for kind in KINDS])


def with_words(images, *words):
    return corrupted(images, [words] * len(images), Generator().manual_seed(5))


def saturation(images):
    return images.amax(1) - images.amin(1)


def sharpness(images):
    """Mean square of the differences between neighbours."""
    across, down = images.diff(dim=-1), images.diff(dim=-2)
    return across.square().mean((1, 2, 3)) + down.square().mean((1, 2, 3))


def noise(images):
    """What a median of 3 x 3 takes away: little of edges, all of grain."""
    patches = F.unfold(images.flatten(0, 1)[:, None], 3, padding=1)
    return (patches.median(1).values.view_as(images) - images).abs().mean((1, 2, 3))


def brightest_background(images):
    return images[..., :3, :3].mean((1, 2, 3))


def test_every_word_keeps_pictures_pictures(clean):
    for word in ALL:
        images = with_words(clean, word)
        assert images.shape == clean.shape
        assert float(images.min()) >= -1e-6 and float(images.max()) <= 1 + 1e-6
        assert ((images - clean).abs().mean((1, 2, 3)) > 0.003).all(), word


def test_oversaturated_pictures_are_more_saturated(clean):
    after = saturation(with_words(clean, "oversaturated")).mean((1, 2))
    assert (after > 1.2 * saturation(clean).mean((1, 2))).all()


def test_fog_and_haze_take_contrast_and_the_white_away(clean):
    for word in ("foggy", "hazy"):
        images = with_words(clean, word)
        assert (images.std((1, 2, 3)) < 0.8 * clean.std((1, 2, 3))).all()
        assert (brightest_background(images) < 0.95).all()
    foggy, hazy = with_words(clean, "foggy"), with_words(clean, "hazy")
    assert (foggy[:, 2] > foggy[:, 0])[..., 0, 0].all()  # fog is cool
    assert (hazy[:, 2] < hazy[:, 0])[..., 0, 0].all()  # haze is warm


def test_blur_takes_sharpness_away_and_blurry_more_than_smooth(clean):
    smooth, blurry = (sharpness(with_words(clean, word)) for word in ("smooth", "blurry"))
    assert (smooth < 0.8 * sharpness(clean)).all()
    assert float(blurry.mean()) < 0.7 * float(smooth.mean())


def test_blur_has_the_deviation_that_it_says():
    point = torch.zeros(2, 3, 65, 65)
    point[..., 32, 32] = 1
    strength = torch.tensor([1.0, 0.5])
    spread = corruptions.blurry(point, strength, Generator())[:, 0].sum(1)
    place = torch.arange(65.0) - 32
    variance = (spread * place.square()).sum(1) / spread.sum(1)
    assert torch.allclose(variance.sqrt(), 65 * 0.06 * strength, rtol=0.03)


def test_pixelated_pictures_have_few_colours(clean):
    image = with_words(clean[:1], "pixelated")[0]
    assert len(image.flatten(1).T.unique(dim=0)) <= 32 * 32


def test_cartoons_have_dark_outlines_and_few_levels(clean):
    dark, before = (x.amax(1) < 0.3 for x in (with_words(clean, "cartoon"), clean))
    assert (dark.float().mean((1, 2)) > before.float().mean((1, 2))).all()
    ramp = torch.linspace(0, 1, 64).expand(2, 3, 64, 64)
    flat = corruptions.cartoon(ramp, torch.tensor([1.0, 0.8]), Generator())[..., 2:-2]
    assert all(len(image.mul(255).round().unique()) <= 4 for image in flat)


def test_noise_is_noise_of_its_own_strength(clean):
    assert (noise(with_words(clean, "noisy")) > 2 * noise(clean)).all()
    grey = torch.full((2, 3, 64, 64), 0.5)
    strength = torch.tensor([0.5, 1.0])
    found = corruptions.noisy(grey, strength, Generator().manual_seed(1)).std((1, 2, 3))
    assert float(found[0]) == pytest.approx(0.15, rel=0.05)
    assert float(found[1]) == pytest.approx(0.3, rel=0.1)  # a little is cut off at 0 and 1


def test_structure_is_moved_and_colours_are_kept(clean):
    for word in ("bad structure", "malformed"):
        images = with_words(clean, word)
        assert torch.allclose(images.mean((0, 2, 3)), clean.mean((0, 2, 3)), atol=0.06)
        assert ((images - clean).abs().mean((1, 2, 3)) > 0.03).all()


def test_paintings_are_warm_and_slanted(clean):
    images = with_words(clean, PAINTING)
    corner = images[..., :8, :8]
    assert (corner[:, 0].mean((1, 2)) > corner[:, 2].mean((1, 2)) + 0.05).all()
    # Along the strokes, from bottom left to top right, brightness hardly changes.
    grey = corner.mean(1)
    along = (grey[:, 1:, :-1] - grey[:, :-1, 1:]).abs().mean((1, 2))
    across = (grey[:, 1:, 1:] - grey[:, :-1, :-1]).abs().mean((1, 2))
    assert (along < 0.6 * across).all()


def test_a_strength_of_zero_does_nothing(clean):
    for effect in (
        corruptions.oversaturated,
        corruptions.smooth,
        corruptions.blurry,
        corruptions.pixelated,
        corruptions.cartoon,
        corruptions.foggy,
        corruptions.hazy,
        corruptions.bad_structure,
        corruptions.malformed,
        corruptions.noisy,
        corruptions.painting,
    ):
        same = effect(clean, torch.zeros(len(clean)), Generator().manual_seed(0))
        assert torch.allclose(same, clean, atol=1e-5), effect.__name__


def test_each_picture_is_changed_by_its_own_words_alone(clean):
    words = [()] * len(clean)
    words[3] = ("blurry", "noisy")
    images = corrupted(clean, words, Generator().manual_seed(2))
    changed = (images != clean).flatten(1).any(1)
    assert changed.tolist() == [index == 3 for index in range(len(clean))]


def test_the_same_seed_gives_the_same_corruptions(clean):
    for word in ALL:
        assert torch.equal(with_words(clean, word), with_words(clean, word)), word


def test_words_of_praise_change_nothing(clean):
    assert torch.equal(with_words(clean, "sharp", "high quality"), clean)


def test_many_corruptions_are_each_weaker_than_one_alone(clean):
    """The source prompt of the bridge has all ten, and something has to be left."""
    together = with_words(clean, *CORRUPTION_WORDS)
    blank = clean.mean((0, 2, 3), keepdim=True)
    centred = together - together.mean((2, 3), keepdim=True)
    likeness = F.cosine_similarity(centred.flatten(1), (clean - blank).flatten(1))
    assert (likeness > 0.4).all()
