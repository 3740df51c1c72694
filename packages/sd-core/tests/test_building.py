"""Whose random state is seeded while something is built."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from sd_core import building
from sd_core.building import build_guidance, build_prior, build_scene
from sd_core.experiment import Experiment
from small_runs import plugins, table


def test_what_is_built_on_the_cpu_leaves_gpus_alone(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a GPU was touched")

    for name in ("device_count", "get_rng_state", "set_rng_state", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, refuse)
    experiment = Experiment(table({"steps": 1}, device="cpu"), plugins())
    prior = build_prior(experiment)
    build_scene(experiment, 0, prior, None)
    build_guidance(experiment, 0, prior, choice=experiment.stages[0].guidance)


@pytest.fixture
def two_gpus(monkeypatch):
    """Their seeds as torch would have them, by number."""
    seeds, current = {0: 10, 1: 11}, []

    def device(which):
        current.append(which.index)
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda which: seeds[which.index])
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, which: seeds.update({which.index: state})
    )
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: seeds.update({current[-1]: seed}))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: seeds.update({0: 0, 1: 0}))
    return seeds


def test_of_two_gpus_only_the_one_that_is_computed_on_is_seeded_and_put_back(two_gpus):
    expected = torch.rand(3, generator=torch.Generator().manual_seed(7))
    before = torch.get_rng_state()
    with building._seeded(7, torch.device("cuda", 1)):
        assert two_gpus == {0: 10, 1: 7}
        assert torch.equal(torch.rand(3), expected)
    assert two_gpus == {0: 10, 1: 11}
    assert torch.equal(torch.get_rng_state(), before)


def test_another_kind_of_device_is_seeded_too(monkeypatch):
    seeds = []
    module = SimpleNamespace(manual_seed=seeds.append)
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    with building._seeded(7, torch.device("mps")):
        assert seeds == [7]
