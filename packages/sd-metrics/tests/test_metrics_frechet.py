"""The Fréchet distance, against closed forms, scipy and torchmetrics."""

import numpy as np
import pytest
import torch
from torch import Generator, nn

from sd_metrics.frechet import bias_warning, frechet_distance
from sd_metrics.moments import Moments

linalg = pytest.importorskip("scipy.linalg")
fid = pytest.importorskip("torchmetrics.image.fid")

COUNT = 11  # of pictures, where only their moments matter


def gaussian(mean, covariance, count=COUNT):
    mean, covariance = (torch.as_tensor(x, dtype=torch.float64) for x in (mean, covariance))
    return Moments(count, mean, covariance * (count - 1))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(width, seed=0):
    return torch.linalg.qr(normal(width, width, seed=seed)).Q


def covariance(width, rank=None, seed=0):
    factor = normal(width, rank or width, seed=seed)
    return factor @ factor.T


def test_in_one_dimension_it_is_the_distance_of_means_and_of_deviations():
    one, other = gaussian([1.0], [[9.0]]), gaussian([-4.0], [[0.25]])
    assert frechet_distance(one, other) == pytest.approx(5**2 + (3 - 0.5) ** 2, rel=1e-12)


@pytest.mark.parametrize("turned", [False, True], ids=["diagonal", "commuting"])
def test_covariances_that_commute_differ_by_their_roots(turned):
    axes = orthogonal(4) if turned else torch.eye(4, dtype=torch.float64)
    first, second = normal(2, 4, seed=1).abs() * 3
    means = normal(2, 4, seed=2)
    one, other = (
        gaussian(mean, axes @ values.diag() @ axes.T)
        for mean, values in zip(means, (first, second), strict=True)
    )
    expected = (means[0] - means[1]).square().sum() + (first.sqrt() - second.sqrt()).square().sum()
    assert frechet_distance(one, other) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_trace_of_scipys_matrix_root(seed):
    first, second = covariance(6, seed=seed), covariance(6, seed=seed + 10)
    means = normal(2, 6, seed=seed + 20)
    root = linalg.sqrtm(first.numpy() @ second.numpy())
    expected = float((means[0] - means[1]).square().sum() + first.trace() + second.trace())
    expected -= 2 * float(np.trace(root).real)
    one, other = gaussian(means[0], first), gaussian(means[1], second)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(other, one) == pytest.approx(expected, rel=1e-9)


def test_covariances_of_low_rank_whose_spaces_are_apart_have_no_overlap():
    axes = orthogonal(6)
    first = axes[:, :2] @ torch.diag(torch.tensor([5.0, 1e-3], dtype=torch.float64)) @ axes[:, :2].T
    second = axes[:, 2:4] @ axes[:, 2:4].T * 2
    one, other = gaussian(torch.zeros(6), first), gaussian(torch.zeros(6), second)
    assert frechet_distance(one, other) == pytest.approx(5.001 + 4, rel=1e-10)


def test_covariances_of_low_rank_are_the_limit_of_those_of_full_rank():
    first, second = covariance(8, 3, seed=0), covariance(8, 4, seed=1)
    exact = frechet_distance(gaussian(torch.zeros(8), first), gaussian(torch.zeros(8), second))
    small = 1e-10 * torch.eye(8, dtype=torch.float64)
    full = [(each + small).numpy() for each in (first, second)]
    root = linalg.sqrtm(full[0] @ full[1])
    limit = np.trace(full[0]) + np.trace(full[1]) - 2 * np.trace(root).real
    assert exact == pytest.approx(limit, abs=1e-3) and exact > 1


def test_a_distance_to_a_point_is_the_whole_spread():
    one = gaussian([3.0, 4.0], np.zeros((2, 2)))
    other = gaussian([0.0, 0.0], [[2.0, 1.0], [1.0, 5.0]])
    assert frechet_distance(one, other) == pytest.approx(25 + 7, rel=1e-12)


@pytest.mark.parametrize("count", [3, 200], ids=["fewer than features", "more than features"])
def test_a_set_is_at_no_distance_from_itself_and_never_at_a_negative_one(count):
    given = Moments.of(normal(count, 16) * 30 + 100)
    assert 0 <= frechet_distance(given, given) < 1e-9 * float(given.covariance.trace())
    near = Moments(count, given.mean, given.scatter * (1 + 1e-15))
    assert 0 <= frechet_distance(given, near) < 1e-6


def test_a_turned_and_moved_space_is_at_the_same_distance():
    one, other = normal(30, 5, seed=1), normal(20, 5, seed=2) @ normal(5, 5, seed=3)
    turn, move = orthogonal(5, seed=4), normal(5, seed=5)
    expected = frechet_distance(Moments.of(one), Moments.of(other))
    found = frechet_distance(Moments.of(one @ turn + move), Moments.of(other @ turn + move))
    assert found == pytest.approx(expected, rel=1e-10)


class Corners(nn.Module):
    """A feature module for torchmetrics: some pixels."""

    num_features = 12

    def forward(self, images):
        return images[:, :, :2, :2].flatten(1).double() / 255


@pytest.mark.parametrize("counts", [(60, 40), (7, 9)], ids=str)
def test_it_is_torchmetrics_fid_of_the_same_features(counts):
    draw = Generator().manual_seed(0)
    sets = [
        torch.randint(low, high, (count, 3, 8, 8), generator=draw, dtype=torch.uint8)
        for count, low, high in zip(counts, (0, 60), (200, 256), strict=True)
    ]
    theirs = fid.FrechetInceptionDistance(feature=Corners()).set_dtype(torch.float64)
    theirs.update(sets[0], real=True)
    theirs.update(sets[1], real=False)
    ours = frechet_distance(*(Moments.of(Corners()(each)) for each in sets))
    assert ours == pytest.approx(float(theirs.compute()), abs=1e-4) and ours > 0.1


def test_up_to_ten_pictures_a_feature_there_is_a_warning_that_says_how_many_there_are():
    assert bias_warning(1001, 2000, 100) is None
    for count, reference in ((1000, 2000), (2000, 1000), (5, 7)):
        warning = bias_warning(count, reference, 100)
        assert warning is not None and warning.startswith(
            f"{count} pictures were compared with {reference} of the reference by 100 features: "
        )


def test_the_distance_of_few_pictures_of_one_distribution_is_too_large_as_the_warning_says():
    few, many = (
        frechet_distance(Moments.of(normal(n, 20, seed=1)), Moments.of(normal(n, 20, seed=2)))
        for n in (10, 4000)
    )
    assert few > 10 > 0.5 > many
