"""The plan: what its numbers mean, and which change what a work folder was begun with."""

from dataclasses import replace

import pytest

from sd_core.errors import ConfigError
from sd_toybox.train import plan as plan_module
from sd_toybox.train.plan import FULL, MINUTES, QUICK, fingerprint, plan_for, seed_for


def test_the_full_plan_takes_its_full_time():
    assert plan_for(MINUTES) == FULL


def test_half_the_time_that_learning_takes_is_half_the_steps():
    half = plan_for((MINUTES + plan_module.FIXED_MINUTES) / 2)
    for name in ("vae", "clip", "diffusion"):
        ours, full = getattr(half, name), getattr(FULL, name)
        assert ours == replace(full, steps=full.steps // 2)
    assert half.world_pictures == FULL.world_pictures


def test_too_little_time_is_refused_with_what_is_possible():
    with pytest.raises(ConfigError, match=r"--minutes is 10, .* take 20\. Give at least 25"):
        plan_for(10.0)


def test_two_thousand_samples_are_measured():
    assert FULL.guided_samples + FULL.held_out_samples + FULL.plain_samples == 2000


def test_another_plan_seed_world_or_weight_is_another_fingerprint(monkeypatch):
    found = {
        fingerprint(FULL, 0),
        fingerprint(FULL, 1),
        fingerprint(QUICK, 0),
        fingerprint(replace(FULL, clip=replace(FULL.clip, rate=1e-5)), 0),
    }
    monkeypatch.setattr(plan_module, "world_version", lambda: "another")
    found.add(fingerprint(FULL, 0))
    assert len(found) == 5


def test_each_purpose_has_a_seed_of_its_own():
    asked = [(0, "vae", 1), (0, "vae", 2), (0, "clip", 1), (1, "vae", 1), (0, "vae1")]
    assert len({seed_for(*each) for each in asked}) == len(asked)
    assert seed_for(0, "vae", 1) == seed_for(0, "vae", 1)
