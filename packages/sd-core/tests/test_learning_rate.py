"""Warm-up and cosine decay of the scene's step size."""

from itertools import pairwise
from math import cos, pi

import pytest
import torch

from sd_core.experiment_options import OptimiserOptions
from sd_core.learning_rate import rate_factor, set_rates
from sd_core.step import Step
from small_runs import SmallRun, newest_state, same, table


def factors(steps, **options):
    return [rate_factor(OptimiserOptions(**options), Step(i, steps)) for i in range(steps)]


def test_without_options_the_rate_is_constant():
    assert factors(4) == [1.0] * 4


def test_the_rate_warms_up_in_a_straight_line():
    assert factors(6, warm_up_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert factors(2, warm_up_steps=4) == [0.25, 0.5]


def test_a_cosine_falls_from_one_towards_zero_after_the_warm_up():
    found = factors(10, warm_up_steps=2, decay="cosine")
    assert found[:3] == [0.5, 1.0, 1.0]
    assert found[6] == pytest.approx(0.5)  # half of the eight steps that are left
    assert found[9] == pytest.approx(0.5 * (1 + cos(pi * 7 / 8)))
    assert all(a > b for a, b in pairwise(found[2:]))


def test_each_group_keeps_its_own_rate():
    slow, fast = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimiser = torch.optim.SGD([{"params": [slow], "lr": 0.1}, {"params": [fast]}], lr=1.0)
    for factor in (0.5, 0.25):
        set_rates(optimiser, factor)
        assert [group["lr"] for group in optimiser.param_groups] == [0.1 * factor, factor]


def test_a_resumed_run_goes_on_at_the_rate_where_it_stopped(tmp_path):
    stage = {
        "steps": 12,
        "guidance": "sds",
        "renderer": "affine",
        "optimiser": {"warm_up_steps": 5, "decay": "cosine"},
    }
    whole = SmallRun(table(stage), tmp_path / "whole").go()
    parts = SmallRun(table(stage), tmp_path / "parts").go(steps=3).resume(steps=8).resume()
    ends = [newest_state(run.folder) for run in (whole, parts)]
    assert same(*(end["scene"] for end in ends))
    constant = SmallRun(table({**stage, "optimiser": {}}), tmp_path / "constant").go()
    assert not same(newest_state(constant.folder)["scene"], ends[0]["scene"])
