"""Entropies against closed forms, scipy, and the numbers that ESD printed."""

from math import inf, log

import pytest
import torch
from torch import Generator

from sd_core.entropy import entropy_of_mean
from sd_metrics.entropies import information_gain, mean_entropy

stats = pytest.importorskip("scipy.stats")

# Wang et al. 2024, table 3: IQ, IV, IG as printed. Methods are in the order SDS, VSD, Debiased-SDS,
# Perp-Neg, ESD; the prompts: dog with a cellphone, rabbit, rotary telephone, plush dragon.
PRINTED = {
    "dog": [
        (4.469, 5.119, 0.145),
        (2.514, 3.041, 0.209),
        (4.058, 4.814, 0.186),
        (3.970, 4.572, 0.151),
        (2.523, 4.080, 0.617),
    ],
    "rabbit": [
        (4.365, 4.970, 0.138),
        (1.083, 1.173, 0.083),
        (4.443, 4.857, 0.093),
        (2.453, 2.665, 0.086),
        (1.385, 1.567, 0.132),
    ],
    "telephone": [
        (3.478, 4.179, 0.202),
        (3.469, 4.214, 0.214),
        (4.098, 4.201, 0.025),
        (3.488, 4.021, 0.153),
        (3.332, 4.439, 0.366),
    ],
    "dragon": [
        (4.622, 5.008, 0.084),
        (4.382, 4.728, 0.078),
        (4.827, 4.954, 0.026),
        (4.691, 4.816, 0.027),
        (4.436, 4.971, 0.121),
    ],
}
# The means over 120 prompts, table 1.
MEANS = {
    "SDS": (4.295, 4.8552, 0.123),
    "VSD": (3.149, 3.5712, 0.137),
    "ESD": (3.135, 4.0314, 0.327),
}
HALF = 0.0005  # of the last digit that is printed


def probabilities(views, classes, seed=0, sharpness=3.0):
    logits = torch.randn(views, classes, generator=Generator().manual_seed(seed)).double()
    return (sharpness * logits).softmax(dim=1)


def test_quality_and_variety_are_scipys_in_nats():
    p = probabilities(6, 9)
    expected = [stats.entropy(row.numpy()) for row in p]
    assert mean_entropy(p) == pytest.approx(sum(expected) / 6, rel=1e-12)
    assert entropy_of_mean(p) == pytest.approx(stats.entropy(p.mean(dim=0)), rel=1e-12)


def test_float32_rows_are_computed_in_float64():
    p = probabilities(4, 1000, sharpness=0.01).float()
    assert mean_entropy(p) == pytest.approx(mean_entropy(p.double()), rel=1e-15)


@pytest.mark.parametrize("sharpness", [0.01, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("views", [1, 2, 7])
def test_the_variety_is_never_less_than_the_quality(views, sharpness):
    for seed in range(20):
        p = probabilities(views, 5, seed, sharpness)
        quality, variety = mean_entropy(p), entropy_of_mean(p)
        assert 0 <= quality <= variety + 1e-12 <= log(5) + 2e-12
        assert information_gain(quality, variety) >= 0


def test_views_that_are_alike_gain_nothing():
    p = probabilities(1, 6).expand(5, -1)
    assert information_gain(mean_entropy(p), entropy_of_mean(p)) == pytest.approx(0, abs=1e-12)
    certain = torch.tensor([[0.0, 1.0]]).expand(5, -1)
    assert information_gain(mean_entropy(certain), entropy_of_mean(certain)) == 0


def test_views_that_are_each_another_class_have_variety_ln_n_and_an_infinite_gain():
    p = torch.eye(6)[:4]
    assert mean_entropy(p) == 0
    assert entropy_of_mean(p) == pytest.approx(log(4))
    assert information_gain(mean_entropy(p), entropy_of_mean(p)) == inf


def test_half_and_half_by_hand():
    p = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])
    assert mean_entropy(p) == pytest.approx(log(2))
    assert entropy_of_mean(p) == pytest.approx(log(4))
    assert information_gain(log(2), log(4)) == pytest.approx(1.0)


def agrees(quality, variety, printed):
    """Whether some numbers that are rounded to those printed have that gain, rounded."""
    least = information_gain(quality + HALF, variety - HALF)
    most = information_gain(quality - HALF, variety + HALF)
    return least <= printed + HALF and printed - HALF <= most


def test_the_gains_of_table_3_are_ours_but_for_two_of_twenty():
    """VSD's dragon is 0.0790 and ESD's telephone 0.332 of its own IQ and IV."""
    odd = {
        (prompt, row)
        for prompt, rows in PRINTED.items()
        for row, (quality, variety, gain) in enumerate(rows)
        if not agrees(quality, variety, gain)
    }
    assert odd == {("dragon", 1), ("telephone", 4)}
    assert information_gain(4.382, 4.728) == pytest.approx(0.0790, abs=5e-5)  # printed 0.078
    assert information_gain(3.332, 4.439) == pytest.approx(0.3322, abs=5e-5)  # printed 0.366


def test_the_gains_of_table_1_are_no_gains_of_its_means():
    """So they are the means of the prompts' own, which the gain of the means is not."""
    for quality, variety, gain in MEANS.values():
        assert not agrees(quality, variety, gain)
    rows = [method for prompt in PRINTED.values() for method in prompt]
    own = [information_gain(quality, variety) for quality, variety, _ in rows]
    quality, variety = (sum(row[i] for row in rows) / len(rows) for i in (0, 1))
    assert sum(own) / len(own) > 1.05 * information_gain(quality, variety)


def test_usds_printed_entropies_are_more_than_its_equation_33_can_give():
    """cEnt 1.0375 of three poses, pEnt 1.2488 of four (table 1): no 1/n, natural logarithm."""
    for value, poses in ((1.0375, 3), (1.2488, 4)):
        uniform = torch.full((1, poses), 1 / poses)
        assert entropy_of_mean(uniform) / poses < value < entropy_of_mean(uniform)
