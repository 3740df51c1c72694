"""The pictures of a training: those of the world, kept in pieces and drawn once."""

from dataclasses import replace
from math import tau

import pytest
import torch
from torch import Generator

from sd_toybox.train import data
from sd_toybox.train.data import Store, draw_labels
from sd_toybox.train.plan import QUICK
from sd_toybox.world.kinds import COLOURS, HELD_OUT, KINDS
from sd_toybox.world.samples import draw_pictures, sample_world

PLAN = replace(QUICK, world_pictures=12, judge_pictures=10, test_pictures=4, judge_test_pictures=4)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "PIECE", 5)
    return Store(tmp_path / "pictures", PLAN, 0, lambda line: None)


def combinations(labels):
    pairs = zip(labels.kind.tolist(), labels.colour.tolist(), strict=True)
    return {(KINDS[kind], COLOURS[colour]) for kind, colour in pairs}


def test_they_are_what_the_world_itself_draws():
    ours, theirs = (Generator().manual_seed(3) for _ in range(2))
    labels = draw_labels("world", 40, ours)
    expected = sample_world(40, theirs)
    assert labels.captions == expected.labels.captions
    assert torch.equal(draw_pictures(labels, ours), expected.pictures)


def test_the_models_own_pictures_leave_out_what_is_held_out_and_the_others_do_not():
    shown = {
        part: combinations(draw_labels(part, 1500, Generator().manual_seed(0)))
        for part in ("world", "test", "judge")
    }
    assert not shown["world"] & HELD_OUT
    assert shown["test"] > HELD_OUT and shown["judge"] > HELD_OUT


def test_the_judge_sees_toys_from_all_around():
    labels = draw_labels("judge", 6000, Generator().manual_seed(0))
    shares = (labels.cameras.azimuth.remainder(tau) / (tau / 8)).long().bincount() / 6000
    assert (shares - 1 / 8).abs().max() < 4 * (1 / 8 * 7 / 8 / 6000) ** 0.5
    # The camera stands where its label says, not where it stood before.
    assert torch.equal(
        torch.atan2(labels.cameras.position[:, 1], labels.cameras.position[:, 0]).sign(),
        labels.cameras.azimuth.sin().sign(),
    )


def test_a_second_call_draws_nothing_and_gives_the_same(store, monkeypatch):
    first = store.samples("world")
    assert first.pictures.shape == (12, 3, 64, 64) and len(first.labels) == 12
    assert len(list(store.folder.iterdir())) == 3  # of five, five and two
    monkeypatch.setattr(data, "draw_pictures", None)
    again = store.samples("world")
    assert torch.equal(again.pictures, first.pictures)
    assert again.labels.captions == first.labels.captions
    assert torch.equal(again.labels.cameras.azimuth, first.labels.cameras.azimuth)


def test_a_lost_piece_comes_back_as_it_was(store):
    whole = store.samples("judge").pictures
    (store.folder / "judge_001.safetensors").unlink()
    assert torch.equal(store.samples("judge").pictures, whole)


def test_parts_and_seeds_differ(store):
    stores = [store, replace(store, seed=1, folder=store.folder / "other")]
    parts = [each.samples(part) for each in stores for part in ("test", "judge-test")]
    assert len({samples.labels.captions for samples in parts}) == 4
