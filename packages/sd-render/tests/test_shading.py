"""Light on dull surfaces, and the draw of the shading."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_render.shading import ShadingOptions, choose_shading, lambertian, textureless

DREAMFUSION = ShadingOptions(diffuse_share=0.75)


def draws(options: ShadingOptions, *, step: int = 10_000, count: int = 4000) -> Counter[str]:
    generator = torch.Generator().manual_seed(0)
    return Counter(choose_shading(step, options, generator) for _ in range(count))


def surface(angle_deg: float) -> tuple[Tensor, Tensor, Tensor]:
    """A normal along z at (1, 2, 3), and a lamp 5 away at an angle to it."""
    angle = math.radians(angle_deg)
    point = torch.tensor([[1.0, 2.0, 3.0]])
    towards = torch.tensor([[math.sin(angle), 0.0, math.cos(angle)]])
    return torch.tensor([[0.0, 0.0, 1.0]]), point, point + 5 * towards


@pytest.mark.parametrize("angle_deg", [0.0, 30.0, 60.0, 89.0])
def test_brightness_falls_with_the_cosine(angle_deg: float) -> None:
    albedo = torch.tensor([[1.0, 0.5, 0.0]])
    colour = lambertian(albedo, *surface(angle_deg))
    cosine = math.cos(math.radians(angle_deg))
    assert_close(colour, albedo * (0.1 + 0.9 * cosine), atol=1e-6, rtol=0)


def test_a_surface_turned_away_has_the_ambient_light_alone() -> None:
    colour = lambertian(torch.ones(1, 3), *surface(120.0), ambient=0.25, diffuse=0.5)
    assert_close(colour, torch.full((1, 3), 0.25))


def test_each_point_has_its_own_lamp() -> None:
    normals = torch.tensor([[0.0, 0.0, 1.0]] * 2)
    lamps = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, -2.0]])
    colour = textureless(normals, torch.zeros(2, 3), lamps)
    assert_close(colour, torch.tensor([[1.0] * 3, [0.1] * 3]))


def test_textureless_is_lambertian_on_white() -> None:
    normals, points, lamps = torch.randn(3, 20, 3, generator=torch.Generator().manual_seed(0))
    lights = {"ambient": 0.2, "diffuse": 0.7}
    white = lambertian(torch.ones(20, 3), normals, points, lamps, **lights)
    assert_close(textureless(normals, points, lamps, **lights), white)


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda every: lambertian(*every), inputs)


def test_by_default_colours_are_never_shaded() -> None:
    assert draws(ShadingOptions(), count=500) == {"albedo": 500}


def test_shares_are_those_of_dreamfusion() -> None:
    counts = draws(DREAMFUSION)
    expected = {"albedo": 1000, "textureless": 1500, "lambertian": 1500}
    assert counts.keys() == expected.keys()
    for name, count in expected.items():
        assert abs(counts[name] - count) < 150, name  # five standard deviations


def test_a_share_of_one_leaves_no_other() -> None:
    assert draws(ShadingOptions(diffuse_share=1.0, textureless_share=1.0)).keys() == {"textureless"}
    assert draws(ShadingOptions(diffuse_share=1.0, textureless_share=0.0)).keys() == {"lambertian"}


def test_the_first_steps_are_ambient_only() -> None:
    lit = ShadingOptions(diffuse_share=1.0, ambient_only_steps=7)
    assert draws(lit, step=6, count=200) == {"albedo": 200}
    assert "albedo" not in draws(lit, step=7, count=200)


def test_every_call_draws_the_same_numbers() -> None:
    states = []
    for options in (ShadingOptions(), DREAMFUSION, ShadingOptions(diffuse_share=1.0)):
        for step in (0, 5000):
            generator = torch.Generator().manual_seed(3)
            choose_shading(step, options, generator)
            states.append(generator.get_state())
    assert all(torch.equal(state, states[0]) for state in states)


@pytest.mark.parametrize("name", ["diffuse_share", "textureless_share", "ambient", "diffuse"])
def test_shares_and_lights_are_between_0_and_1(name: str) -> None:
    for value in (-0.1, 1.1):
        wrong: dict[str, Any] = {name: value}
        with pytest.raises(ConfigError, match=f"shading.{name} is {value}, but it should be"):
            parse_options(ShadingOptions, wrong, where="shading")
