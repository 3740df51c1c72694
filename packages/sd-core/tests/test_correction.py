"""How long a correction may be, sample by sample."""

import pytest
import torch
from torch import Generator

from sd_core.correction import Correction, limited, relative_length


def lengths(latents):
    return latents.flatten(1).norm(dim=1)


def some(lengths_wanted, seed):
    drawn = torch.randn(3, 2, 4, 4, generator=Generator().manual_seed(seed), dtype=torch.float64)
    wanted = torch.tensor(lengths_wanted, dtype=torch.float64)
    return drawn * (wanted / lengths(drawn)).view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("none", [4.0, 1.0, 0.0]), ("at-most", [2.0, 1.0, 0.0]), ("equal", [2.0, 2.0, 0.0])],
)
def test_each_sample_is_cut_to_its_own_residual(limit, expected):
    """Residuals of length 2; corrections of 4, 1 and 0."""
    correction = some([4.0, 1.0, 0.0], 0)
    found = limited(Correction(correction, limit), some([2.0, 2.0, 2.0], 1))
    assert lengths(found).tolist() == pytest.approx(expected)
    along = (found * correction).sum((1, 2, 3)) - lengths(found) * lengths(correction)
    torch.testing.assert_close(along, torch.zeros(3, dtype=torch.float64))  # the same direction


def test_what_may_be_rounding_is_enlarged_by_no_more_than_16384():
    correction = some([1e-9, 1e-4, 1.0], 0)
    found = limited(Correction(correction, "equal"), some([1.0, 1.0, 1.0], 1))
    assert lengths(found).tolist() == pytest.approx([16384e-9, 1.0, 1.0])


def test_its_length_is_told_beside_that_of_the_residual_before_it_is_cut():
    correction = Correction(some([4.0, 3.0, 0.0], 0), "at-most")
    assert relative_length(correction, some([0.0, 6.0, 8.0], 1)) == pytest.approx(0.5)


def test_beside_no_residual_it_has_no_relative_length():
    residual = torch.zeros(3, 2, 4, 4, dtype=torch.float64)
    assert relative_length(Correction(some([1.0, 0.0, 0.0], 0)), residual) is None
