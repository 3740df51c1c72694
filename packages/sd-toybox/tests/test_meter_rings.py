"""Views sorted into rings."""

from math import radians, tau

import pytest
import torch

from sd_core.errors import ConfigError
from sd_toybox.meter.rings import rings_of_views


def circle(count, start=0.0):
    return torch.arange(count) * (tau / count) + start


def test_each_elevation_is_a_ring_by_growing_azimuth():
    generator = torch.Generator().manual_seed(0)
    azimuth = torch.cat([circle(8, -3.0), circle(12, 50.0)])
    elevation = torch.cat([torch.full((8,), 0.4), torch.full((12,), 0.1)])
    order = torch.randperm(20, generator=generator)
    low, high = rings_of_views(azimuth[order], elevation[order])
    assert sorted(order[low].tolist()) == list(range(8, 20))
    assert sorted(order[high].tolist()) == list(range(8))
    for ring in (low, high):
        turned = azimuth[order][ring].remainder(tau)
        assert torch.equal(turned, turned.sort().values)


def test_rounding_makes_no_ring_of_its_own():
    elevation = torch.full((8,), radians(10.0)) + 1e-6 * torch.arange(8)
    assert len(rings_of_views(circle(8, -1e-7), elevation)) == 1


WRONG = {
    "seven": circle(7),
    "half": circle(24)[:12],
    "twice": circle(24).repeat(2),
    "jittered": circle(24) + 0.1 * torch.arange(24).remainder(2),
}


@pytest.mark.parametrize("azimuth", WRONG.values(), ids=WRONG)
def test_views_that_are_no_full_circle_are_refused(azimuth):
    with pytest.raises(ConfigError, match=r"at least 8 views at equal steps .* turntable") as told:
        rings_of_views(azimuth, torch.zeros(len(azimuth)))
    assert "\n" not in str(told.value)


def test_the_message_says_what_was_found():
    with pytest.raises(ConfigError, match=r"the 6 views at 15° are 60° to 60° apart"):
        rings_of_views(circle(6), torch.full((6,), radians(15.0)))
