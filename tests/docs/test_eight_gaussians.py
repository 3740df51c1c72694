"""The numbers of the eight Gaussians, by hand and by numpy."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from sd_core.cameras import turntable
from sd_core.step import Step
from sd_core.timesteps import TimestepOptions

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import eight_gaussians as world


def test_ends_are_counted_where_they_are():
    at_first = torch.tensor([[1.1, 0.0], [0.9, 0.0]]).repeat(30, 1)  # the mode at (1, 0)
    at_third = torch.tensor([[0.0, 1.0]]).repeat(4, 1)  # the mode at (0, 1)
    nowhere = torch.zeros(36, 2)
    found = world.judge(torch.cat([at_first, at_third, nowhere]))
    assert found.modes == 2
    assert found.at == pytest.approx(0.64)
    assert found.far == pytest.approx((60 + 4) / 100)
    # Of a mode with five points or more: 0.1 along x, 0 along y.
    assert found.spread == pytest.approx(0.1 / math.sqrt(2), rel=1e-5)


def test_a_mode_counts_from_one_percent_of_the_points():
    far, mode = torch.full((1, 2), 9.0), torch.tensor([[-1.0, 0.0]])
    for at, modes in ((1, 0), (2, 1)):
        points = torch.cat([mode.repeat(at, 1), far.repeat(200 - at, 1)])
        assert world.judge(points).modes == modes
    assert world.judge(mode).modes == 1


@pytest.mark.parametrize("method", world.METHODS)
def test_the_terms_are_compared_as_numpy_does(method):
    draws, prior = 50, world.exact_prior()
    guidance = world.Setting(timesteps=TimestepOptions(high=0.5)).guidance(method, prior)
    found = world.compare_terms(guidance, draws, seed=3)

    latents = world.starts(draws).view(-1, 2, 1, 1)
    guided = guidance.gradient(
        latents,
        turntable(len(latents)),
        step=Step(0, 1),
        generator=Generator().manual_seed(3),
    )
    first, second = (term.flatten(1).double().numpy() for term in guided.observed.terms)
    gradient = guided.gradient.flatten(1).double().numpy()
    correlations, left, noise = [], [], []
    for start in range(len(world.STARTS)):
        own = slice(start * draws, (start + 1) * draws)
        a, b, g = first[own], second[own], gradient[own]
        correlations += [np.corrcoef(a[:, axis], b[:, axis])[0, 1] for axis in (0, 1)]
        left.append(np.var(a - b, axis=0).sum() / np.var(a, axis=0).sum())
        noise.append(math.sqrt(np.var(g, axis=0, ddof=1).sum()) / np.linalg.norm(g.mean(0)))
    assert found.correlation == pytest.approx(np.mean(correlations), abs=1e-3)
    assert found.left == pytest.approx(np.mean(left), abs=1e-3)
    assert found.noise == pytest.approx(np.mean(noise), abs=1e-3)
