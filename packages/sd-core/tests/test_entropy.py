"""Entropies against torch's distributions and by hand."""

from math import log

import pytest
import torch
from torch import Generator
from torch.distributions import Categorical

from sd_core.entropy import entropies, entropy_of_mean


def test_the_entropy_of_a_row_is_the_categorical_distributions():
    logits = 3 * torch.randn(6, 9, generator=Generator().manual_seed(0), dtype=torch.float64)
    p = logits.softmax(dim=1)
    torch.testing.assert_close(entropies(p), Categorical(probs=p).entropy(), rtol=1e-12, atol=0)
    mean = Categorical(probs=p.mean(dim=0)).entropy()
    assert entropy_of_mean(p) == pytest.approx(float(mean), rel=1e-12)


def test_a_certain_row_has_entropy_zero_and_a_uniform_one_the_logarithm_of_the_classes():
    rows = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.25] * 4, [0.5, 0.0, 0.5, 0.0]])
    assert entropies(rows).tolist() == pytest.approx([0.0, log(4), log(2)])
    assert str(float(entropies(rows)[0])) == "0.0"


def test_the_entropy_of_the_mean_is_not_the_mean_of_the_entropies():
    assert entropy_of_mean(torch.eye(4)) == pytest.approx(log(4))
    assert entropy_of_mean(torch.eye(4)[:2]) == pytest.approx(log(2))
    assert str(entropy_of_mean(torch.tensor([[0.0, 1.0], [0.0, 1.0]]))) == "0.0"
    by_hand = -(0.25 * log(0.25) + 0.75 * log(0.75))
    assert entropy_of_mean(torch.tensor([[0.5, 0.5], [0.0, 1.0]])) == pytest.approx(by_hand)
