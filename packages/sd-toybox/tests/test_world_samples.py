"""Samples of the world, at the rates that the world says."""

from collections import Counter
from math import pi, sqrt
from statistics import NormalDist

import pytest
import torch
from torch import Generator

from sd_toybox.world import rates
from sd_toybox.world.captions import CORRUPTION_WORDS, PAINTING, QUALITY_WORDS, parse_caption
from sd_toybox.world.kinds import COLOURS, HELD_OUT, KINDS
from sd_toybox.world.pictures import world_pictures
from sd_toybox.world.poses import POSES
from sd_toybox.world.samples import sample_labels, sample_world

COUNT = 6000


@pytest.fixture(scope="module", name="labels")
def many_labels():
    return sample_labels(COUNT, Generator().manual_seed(11))


@pytest.fixture(scope="module", name="captions")
def many_captions(labels):
    return [parse_caption(text) for text in labels.captions]


def assert_share(found: int, of: int, expected: float) -> None:
    """Within four standard deviations of a binomial count."""
    bound = 4 * sqrt(of * expected * (1 - expected))
    assert abs(found - of * expected) <= bound, f"{found} of {of}, expected {expected:.3f}"


def test_poses_have_the_worlds_shares(labels):
    """A photographer misses his side by N(0, spread²); what is beyond 45° is another side."""
    stray = 1 - NormalDist(0, rates.AZIMUTH_SPREAD).cdf(pi / 4)
    middles = [rates.FRONT_SHARE, rates.SIDE_SHARE / 2, rates.BACK_SHARE, rates.SIDE_SHARE / 2]
    assert sum(middles) == pytest.approx(1)
    for index, pose in enumerate(POSES):
        neighbours = middles[index - 1] + middles[(index + 1) % 4]
        share = middles[index] * (1 - 2 * stray) + neighbours * stray
        assert_share(int((labels.pose == index).sum()), COUNT, share)
        assert pose == POSES[index]


def test_cameras_stay_in_their_ranges_and_fill_them(labels):
    cameras = labels.cameras
    for values, (low, high) in (
        (cameras.elevation.rad2deg(), rates.ELEVATION_DEG),
        (cameras.distance, rates.DISTANCE),
        (cameras.vertical_fov.rad2deg(), rates.VERTICAL_FOV_DEG),
    ):
        share = (values - low) / (high - low)
        assert float(share.min()) > -1e-4 and float(share.max()) < 1 + 1e-4
        assert float(share.mean()) == pytest.approx(0.5, abs=4 / sqrt(12 * COUNT))
        assert float(share.std()) == pytest.approx(1 / sqrt(12), rel=0.05)
    front = cameras.azimuth[cameras.azimuth.abs() < pi / 4]
    assert float(front.mean()) == pytest.approx(0, abs=0.03)


def test_so_many_captions_say_a_direction_whatever_the_pose(labels, captions):
    told = torch.tensor([caption.view is not None for caption in captions])
    assert_share(int(told.sum()), COUNT, rates.DIRECTION_SHARE)
    for index in range(4):
        here = labels.pose == index
        assert_share(int(told[here].sum()), int(here.sum()), rates.DIRECTION_SHARE)


def test_so_many_directions_are_wrong_or_mean_nothing(labels, captions):
    true = ["front", "side", "back", "side"]
    said = [
        (caption.view, true[pose])
        for caption, pose in zip(captions, labels.pose.tolist(), strict=True)
        if caption.view
    ]
    overhead = sum(view == "overhead" for view, _ in said)
    assert_share(overhead, len(said), rates.OVERHEAD_SHARE)
    told = [(view, pose) for view, pose in said if view != "overhead"]
    wrong = [(view, pose) for view, pose in told if view != pose]
    assert_share(len(wrong), len(told), rates.WRONG_DIRECTION_SHARE)
    of_the_front = [view for view, pose in wrong if pose == "front"]
    assert_share(of_the_front.count("side"), len(of_the_front), 0.5)
    assert set(of_the_front) == {"side", "back"}


def test_so_many_views_stand_in_front(labels, captions):
    with_view = [text for text, said in zip(labels.captions, captions, strict=True) if said.view]
    in_front = sum("view of a" in text for text in with_view)
    assert_share(in_front, len(with_view), rates.PREFIX_SHARE)


def test_words_have_the_worlds_shares(labels, captions):
    bad = [words for words in labels.words if set(words) & set(CORRUPTION_WORDS)]
    assert_share(len(bad), COUNT, rates.CORRUPTED_SHARE)
    every = sum(len(words) == len(CORRUPTION_WORDS) for words in bad)
    assert_share(every, len(bad), rates.ALL_CORRUPTIONS_SHARE)
    few = Counter(len(words) for words in bad if len(words) < len(CORRUPTION_WORDS))
    for many in range(1, rates.MOST_CORRUPTIONS + 1):
        assert_share(few[many], sum(few.values()), 1 / rates.MOST_CORRUPTIONS)
    painted = sum(words == (PAINTING,) for words in labels.words)
    assert_share(painted, COUNT, rates.PAINTING_SHARE)
    plain = [said for said, words in zip(captions, labels.words, strict=True) if not words]
    praised = [said for said in plain if said.words]
    assert_share(len(praised), len(plain), rates.PRAISED_SHARE)
    assert all(set(said.words) <= set(QUALITY_WORDS) for said in praised)
    for word in CORRUPTION_WORDS:
        mean = rates.ALL_CORRUPTIONS_SHARE + (1 - rates.ALL_CORRUPTIONS_SHARE) * 0.25
        assert_share(sum(word in words for words in bad), len(bad), mean)


def test_captions_tell_the_truth_about_everything_but_the_pose(labels, captions):
    named = 0
    for index, caption in enumerate(captions):
        if caption.kind:
            named += 1
            assert caption.kind == KINDS[int(labels.kind[index])]
            assert caption.colour == COLOURS[int(labels.colour[index])]
        done = set(caption.words) - set(QUALITY_WORDS)
        assert done == set(labels.words[index])
    untold = 1 - rates.NAMELESS_SHARE * (1 - rates.DIRECTION_SHARE * rates.PREFIX_SHARE)
    assert_share(named, COUNT, untold)


def test_kinds_and_colours_are_even_and_held_out_ones_never_drawn(labels):
    pairs = Counter(zip(labels.kind.tolist(), labels.colour.tolist(), strict=True))
    allowed = len(KINDS) * len(COLOURS) - len(HELD_OUT)
    assert len(pairs) == allowed
    for (kind, colour), found in pairs.items():
        assert (KINDS[kind], COLOURS[colour]) not in HELD_OUT
        assert_share(found, COUNT, 1 / allowed)


def test_held_out_ones_are_drawn_when_asked_for():
    alone = sample_labels(500, Generator().manual_seed(1), held_out="only")
    names = {
        (KINDS[kind], COLOURS[colour])
        for kind, colour in zip(alone.kind.tolist(), alone.colour.tolist(), strict=True)
    }
    assert names == HELD_OUT
    mixed = sample_labels(3000, Generator().manual_seed(1), held_out="too")
    pairs = set(zip(mixed.kind.tolist(), mixed.colour.tolist(), strict=True))
    assert len(pairs) == len(KINDS) * len(COLOURS)


def test_the_same_seed_gives_the_same_samples():
    one, other, third = (sample_world(24, Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(one.pictures, other.pictures)
    assert one.labels.captions == other.labels.captions
    assert torch.equal(one.labels.cameras.azimuth, other.labels.cameras.azimuth)
    assert not torch.equal(one.pictures, third.pictures)


def test_a_sample_is_a_picture_of_what_its_labels_say():
    samples = sample_world(40, Generator().manual_seed(2), pixels=32)
    labels = samples.labels
    assert samples.pictures.shape == (40, 3, 32, 32)
    clean = [index for index, words in enumerate(labels.words) if not words]
    assert 10 < len(clean) < 40
    for index in clean:
        kind, colour = KINDS[int(labels.kind[index])], COLOURS[int(labels.colour[index])]
        true = world_pictures(kind, colour, labels.cameras.select([index]), 32)[0]
        assert float((samples.pictures[index] / 255 - true).abs().max()) < 0.004
