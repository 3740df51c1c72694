"""Whether classes can be told apart, from features whose classes are known."""

import warnings

import pytest
import torch
from torch import Generator

from sd_guidance_usd.separation import TemplatesLookAlike, share_at_home, warn_if_alike


def classes(apart: float, *, pictures: int = 40, alike: float = 0.0) -> dict[str, torch.Tensor]:
    """Two directions, `apart` times as long as the noise around them, and what all have alike."""
    generator = Generator().manual_seed(0)
    noise = torch.randn(2, pictures, 16, generator=generator) + alike
    noise[0, :, 0] += apart
    noise[1, :, 1] += apart
    return {"front": noise[0], "back": noise[1]}


def test_all_pictures_are_at_home_in_classes_far_apart():
    assert share_at_home(classes(50.0)) == 1.0


@pytest.mark.parametrize("alike", [0.0, 3.0])
def test_about_half_are_at_home_where_two_classes_are_one(alike):
    found = share_at_home(classes(0.0, pictures=150, alike=alike))
    assert found == pytest.approx(0.5, abs=0.09)


@pytest.mark.parametrize("pictures", [2, 3, 4])
def test_chance_is_the_same_for_few_pictures_that_have_much_alike(pictures):
    generator = Generator().manual_seed(1)
    shares = []
    for _ in range(40):
        drawn = torch.randn(3, pictures, 64, generator=generator) + 3
        shares.append(share_at_home(dict(zip("abc", drawn, strict=True))))
    assert sum(shares) / len(shares) == pytest.approx(1 / 3, abs=0.08)


def test_a_picture_does_not_vouch_for_itself():
    """Two pictures a class, each its own direction: none is like the other of its class."""
    wholes = {"front": torch.eye(4)[:2], "back": torch.eye(4)[2:]}
    assert share_at_home(wholes) == 0.0


def test_classes_that_look_alike_are_told_with_their_share_and_a_remedy():
    with pytest.warns(TemplatesLookAlike, match=r"front, back look alike: .*by hand"):
        warn_if_alike(classes(0.0))


@pytest.mark.parametrize("wholes", [classes(50.0), classes(0.0, pictures=1)])
def test_nothing_is_said_of_classes_apart_or_of_one_picture_each(wholes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_alike(wholes)
