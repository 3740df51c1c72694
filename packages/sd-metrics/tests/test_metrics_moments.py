"""The mean and the covariance of features that come in batches."""

import numpy as np
import pytest
import torch
from torch import Generator

from sd_core.errors import ConfigError
from sd_metrics.moments import Moments


def features(count, width=5, seed=0):
    return torch.randn(count, width, generator=Generator().manual_seed(seed), dtype=torch.float64)


def merged(batches):
    first, *others = map(Moments.of, batches)
    for other in others:
        first = first.merged(other)
    return first


def test_they_are_numpys_mean_and_covariance():
    given = features(23) * torch.tensor([1.0, 2, 3, 4, 5]) + 7
    found = Moments.of(given)
    assert found.count == 23 and found.width == 5
    assert np.allclose(found.mean, given.numpy().mean(axis=0), rtol=1e-13)
    assert np.allclose(found.covariance, np.cov(given.numpy(), rowvar=False), rtol=1e-12)


@pytest.mark.parametrize("sizes", [[23], [1] * 23, [2, 20, 1], [22, 1], [10, 13]], ids=str)
def test_batches_of_any_size_in_any_order_give_what_all_at_once_give(sizes):
    given = features(23)
    whole = Moments.of(given)
    batches = given[torch.randperm(23, generator=Generator().manual_seed(1))].split(sizes)
    for order in (batches, batches[::-1]):
        found = merged(order)
        assert found.count == 23
        assert torch.allclose(found.mean, whole.mean, rtol=1e-12, atol=1e-14)
        assert torch.allclose(found.covariance, whole.covariance, rtol=1e-12, atol=1e-14)


def test_merging_is_associative():
    a, b, c = (Moments.of(features(count, seed=count)) for count in (3, 4, 9))
    left, right = a.merged(b).merged(c), a.merged(b.merged(c))
    assert torch.allclose(left.scatter, right.scatter, rtol=1e-12, atol=1e-14)


def test_a_large_mean_costs_no_digits():
    """The sum of squares minus the square of the sum would lose all of them: 1e8² · eps = 2."""
    given = features(50)
    found = merged((given + 1e8).split(7))
    assert torch.allclose(found.covariance, Moments.of(given).covariance, rtol=1e-6, atol=1e-7)


def test_features_of_less_precision_are_summed_in_float64_without_a_graph():
    given = features(9).float().requires_grad_()
    found = Moments.of(given)
    assert found.scatter.dtype == found.mean.dtype == torch.float64
    assert not found.mean.requires_grad
    exact = np.cov(given.detach().numpy().astype(np.float64), rowvar=False)
    assert np.allclose(found.covariance, exact, rtol=1e-12)


def test_one_picture_has_no_covariance():
    with pytest.raises(ConfigError, match=r"^1 picture has no covariance, expected two or more\. "):
        _ = Moments.of(features(1)).covariance
