"""The kernel distance, against brute force and torchmetrics."""

from itertools import permutations, product

import pytest
import torch
from torch import Generator, nn

from sd_core.errors import ConfigError
from sd_metrics.kernel_distance import (
    kernel_distance,
    kernel_distance_in_subsets,
    polynomial_kernel,
)

kid = pytest.importorskip("torchmetrics.image.kid")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(first, second):
    """One pair after the other."""

    def kernel(x, y):
        inner = sum(a * b for a, b in zip(x, y, strict=True))
        return (inner / len(x) + 1) ** 3

    def mean(values):
        values = list(values)
        return sum(values) / len(values)

    first, second = first.tolist(), second.tolist()
    return (
        mean(kernel(x, y) for x, y in permutations(first, 2))
        + mean(kernel(x, y) for x, y in permutations(second, 2))
        - 2 * mean(kernel(x, y) for x, y in product(first, second))
    )


def test_the_kernel_of_two_vectors_is_the_cube_of_one_plus_their_mean_product():
    found = polynomial_kernel(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 4.0], [-1.0, -1.0]]))
    assert torch.equal(found, torch.tensor([[8.0**3, (-1.0) ** 3]]))


@pytest.mark.parametrize("counts", [(2, 2), (5, 3), (2, 9)], ids=str)
def test_it_is_the_sum_over_pairs(counts):
    first, second = normal(counts[0], 4, seed=1), normal(counts[1], 4, seed=2) + 0.5
    expected = by_hand(first, second)
    assert kernel_distance(first, second) == pytest.approx(expected, rel=1e-11)
    assert kernel_distance(second, first) == pytest.approx(expected, rel=1e-11)


def test_features_of_less_precision_are_compared_in_float64():
    first, second = normal(6, 4, seed=1).float() * 30, normal(5, 4, seed=2).float() * 30
    assert kernel_distance(first, second) == pytest.approx(by_hand(first, second), rel=1e-11)


def test_it_has_no_bias():
    """Of two sets of one distribution, however few."""
    draw = Generator().manual_seed(3)
    found = torch.tensor(
        [
            kernel_distance(*torch.randn(2, 8, 3, generator=draw, dtype=torch.float64))
            for _ in range(800)
        ]
    )
    error = float(found.std()) / len(found) ** 0.5
    assert abs(float(found.mean())) < 3 * error
    assert bool((found < 0).any())


def test_sets_of_different_distributions_are_further_apart():
    one, same, other = normal(80, 4, seed=1), normal(80, 4, seed=2), normal(80, 4, seed=3) * 2
    assert kernel_distance(one, other) > 10 * abs(kernel_distance(one, same))


class Corners(nn.Module):
    """A feature module for torchmetrics: some pixels."""

    num_features = 12

    def forward(self, images):
        return images[:, :, :2, :2].flatten(1).double() / 255


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`:UserWarning")
def test_it_is_torchmetrics_kid_of_the_same_features_taken_all_at_once():
    draw = Generator().manual_seed(0)
    sets = [
        torch.randint(low, high, (30, 3, 8, 8), generator=draw, dtype=torch.uint8)
        for low, high in ((0, 200), (60, 256))
    ]
    theirs = kid.KernelInceptionDistance(feature=Corners(), subsets=1, subset_size=30)
    theirs.update(sets[0], real=True)
    theirs.update(sets[1], real=False)
    mean, _ = theirs.compute()
    ours = kernel_distance(*(Corners()(each) for each in sets))
    assert ours == pytest.approx(float(mean), rel=1e-5) and ours > 0.01


def in_subsets(first, second, *, subsets=50, size=4, seed=0):
    return kernel_distance_in_subsets(
        first, second, subsets=subsets, size=size, generator=Generator().manual_seed(seed)
    )


def test_one_subset_of_all_is_all_at_once():
    first, second = normal(7, 4, seed=1), normal(7, 4, seed=2)
    found = in_subsets(first, second, subsets=1, size=7)
    assert found.mean == pytest.approx(kernel_distance(first, second), rel=1e-11)
    assert found.deviation == 0


def test_subsets_of_two_are_draws_of_pairs_without_replacement():
    """With two of three each there are nine pairs of draws, so that enough of them show all."""
    first, second = normal(3, 4, seed=1), normal(3, 4, seed=2)
    pairs = [torch.tensor(pair) for pair in ((0, 1), (0, 2), (1, 2))]
    every = torch.tensor([by_hand(first[a], second[b]) for a, b in product(pairs, pairs)])
    found = in_subsets(first, second, subsets=1200, size=2)
    error = float(every.std(correction=0)) / 1200**0.5
    assert found.mean == pytest.approx(float(every.mean()), abs=4 * error)
    assert found.deviation == pytest.approx(float(every.std(correction=0)), rel=0.1)


def test_equal_seeds_draw_the_same_and_others_do_not():
    first, second = normal(20, 4, seed=1), normal(30, 4, seed=2)
    assert in_subsets(first, second) == in_subsets(first, second)
    assert in_subsets(first, second) != in_subsets(first, second, seed=1)


def test_a_subset_larger_than_a_set_is_refused():
    with pytest.raises(
        ConfigError, match=r"of the 20 pictures and 3 of the reference it can have "
    ):
        in_subsets(normal(20, 4), normal(3, 4))


@pytest.mark.parametrize("counts", [(1, 5), (5, 1)], ids=str)
def test_one_picture_is_refused(counts):
    with pytest.raises(ConfigError, match=f"^{counts[0]} and {counts[1]} pictures have no kernel "):
        kernel_distance(normal(counts[0], 4), normal(counts[1], 4))
