"""Backgrounds: colours by direction, drawn from the generator alone."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import normalize
from torch.testing import assert_close

from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_render.background import (
    BackgroundOptions,
    NeuralBackground,
    SolidBackground,
    build_background,
    random_colours,
)
from sd_render.spherical_harmonics import spherical_harmonics


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def directions(count: int = 100) -> Tensor:
    return normalize(torch.randn(count, 3, generator=seeded(1)), dim=-1)


def test_solid_is_white_everywhere_and_learns_nothing() -> None:
    background = build_background(BackgroundOptions(), seeded())
    assert isinstance(background, SolidBackground)
    assert_close(background(directions()), torch.ones(100, 3))
    assert list(background.parameters()) == []
    assert background.state_dict() == {}


def test_solid_has_the_colour_of_its_options() -> None:
    background = build_background(BackgroundOptions(colour=(0.0, 0.5, 1.0)), seeded())
    assert background(directions(2)).tolist() == [[0.0, 0.5, 1.0]] * 2
    assert background(directions(2).double()).dtype == torch.float64


def test_neural_is_the_formula() -> None:
    background = build_background(BackgroundOptions(kind="neural"), seeded())
    first, second, third = (parameter.detach().T for parameter in background.parameters())
    hidden = (spherical_harmonics(directions(), 3) @ first).clamp_min(0)
    hidden = (hidden @ second).clamp_min(0)
    assert_close(background(directions()), 1 / (1 + (-hidden @ third).exp()))
    shapes = [tuple(parameter.shape) for parameter in background.parameters()]
    assert shapes == [(16, 16), (16, 16), (3, 16)]


def test_neural_starts_from_its_generator_and_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (NeuralBackground(seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(before, torch.get_rng_state())
    for ours, same, different in zip(
        first.parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(ours, same)
        assert not torch.equal(ours, different)


def test_neural_starts_uniform_as_torch_s_layers_do() -> None:
    weights = torch.cat([p.flatten() for p in NeuralBackground(seeded()).parameters()]).detach()
    assert weights.abs().max() <= 0.25
    assert weights.abs().max() > 0.24
    assert weights.std().item() == pytest.approx(0.25 / math.sqrt(3), rel=0.1)


def test_neural_differs_by_direction_and_can_be_learned() -> None:
    background = NeuralBackground(seeded())
    colours = background(directions())
    assert ((colours > 0) & (colours < 1)).all()
    assert colours.std(dim=0).min() > 0
    colours.sum().backward()
    for parameter in background.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


def test_neural_is_differentiable_in_the_direction() -> None:
    background = NeuralBackground(seeded()).double()
    assert gradcheck(background, directions(4).double().requires_grad_())


def test_random_colours_are_uniform_and_from_the_generator() -> None:
    colours = random_colours(5000, seeded(2))
    assert colours.shape == (5000, 3)
    assert ((colours >= 0) & (colours < 1)).all()
    assert_close(colours.mean(dim=0), torch.full((3,), 0.5), atol=0.02, rtol=0)
    assert_close(colours.T.cov(), torch.eye(3) / 12, atol=0.01, rtol=0)
    assert torch.equal(colours, random_colours(5000, seeded(2)))
    assert random_colours(0, seeded()).shape == (0, 3)


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"background\.colour\.1 is 2, but it should be less"):
        parse_options(BackgroundOptions, {"colour": [0, 2, 0]}, where="background")
    with pytest.raises(ConfigError, match=r"background\.kind is 'sky', but it"):
        parse_options(BackgroundOptions, {"kind": "sky"}, where="background")
    with pytest.raises(ConfigError, match=r"background\.random_share is 1\.5, but it should be"):
        parse_options(BackgroundOptions, {"random_share": 1.5}, where="background")
