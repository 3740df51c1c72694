"""One convention, per sample: no sample's guidance depends on its neighbours."""

import pytest
import torch
from torch import Tensor

from sd_core.text_guidance import (
    classifier_free_guidance,
    perpendicular,
    perpendicular_negatives,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64)


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-12)


NULL, TEXT = normal(3, 4, 5, 6, seed=1), normal(3, 4, 5, 6, seed=2)
NEGATIVES = normal(3, 2, 4, 5, 6, seed=3)
WEIGHTS = -normal(3, 2, seed=4).abs()


def test_scale_one_is_the_text_alone() -> None:
    assert_same(classifier_free_guidance(NULL, TEXT, 1.0), TEXT)


def test_scale_zero_ignores_the_text() -> None:
    assert torch.equal(classifier_free_guidance(NULL, TEXT, 0.0), NULL)


@pytest.mark.parametrize("scale", [-7.5, 7.5, 100.0])
def test_text_first_code_at_scale_s_is_ours_at_s_plus_one(scale: float) -> None:
    assert_same(classifier_free_guidance(NULL, TEXT, scale + 1), TEXT + scale * (TEXT - NULL))


def test_a_scale_for_each_sample_is_each_sample_at_its_scale() -> None:
    scales = torch.tensor([1.0, 7.5, 100.0], dtype=torch.float64)
    together = classifier_free_guidance(NULL, TEXT, scales)
    for i in range(3):
        alone = classifier_free_guidance(NULL[i : i + 1], TEXT[i : i + 1], float(scales[i]))
        assert torch.equal(together[i : i + 1], alone)


def test_perpendicular_is_orthogonal_to_its_axis() -> None:
    products = (perpendicular(NEGATIVES, TEXT) * TEXT.unsqueeze(1)).sum((2, 3, 4))
    assert_same(products, torch.zeros(3, 2, dtype=torch.float64))


def test_perpendicular_plus_projection_is_the_vector() -> None:
    for i in range(3):
        for j in range(2):
            x, y = NEGATIVES[i, j].flatten(), TEXT[i].flatten()
            expected = x - (x @ y) / (y @ y) * y
            assert_same(perpendicular(NEGATIVES, TEXT)[i, j].flatten(), expected)


def test_perpendicular_twice_is_perpendicular_once() -> None:
    once = perpendicular(NEGATIVES, TEXT)
    assert_same(perpendicular(once, TEXT), once)


def test_perpendicular_to_nothing_is_everything() -> None:
    assert torch.equal(perpendicular(NEGATIVES, torch.zeros_like(TEXT)), NEGATIVES)


@pytest.mark.parametrize("scale", [7.5, 100.0])
def test_a_batch_of_three_equals_three_batches_of_one(scale: float) -> None:
    together = perpendicular_negatives(NULL, TEXT, NEGATIVES, WEIGHTS, scale)
    for i in range(3):
        one = slice(i, i + 1)
        alone = perpendicular_negatives(NULL[one], TEXT[one], NEGATIVES[one], WEIGHTS[one], scale)
        assert_same(together[one], alone)


def test_perpendicular_negatives_are_the_printed_formula() -> None:
    guided = perpendicular_negatives(NULL, TEXT, NEGATIVES, WEIGHTS, 7.5)
    for i in range(3):
        towards = TEXT[i] - NULL[i]
        direction = towards.clone()
        for j in range(2):
            e = NEGATIVES[i, j] - NULL[i]
            direction += WEIGHTS[i, j] * (e - (e * towards).sum() / (towards**2).sum() * towards)
        assert_same(guided[i], NULL[i] + 7.5 * direction)


def test_zero_weights_are_classifier_free_guidance() -> None:
    guided = perpendicular_negatives(NULL, TEXT, NEGATIVES, torch.zeros_like(WEIGHTS), 7.5)
    assert torch.equal(guided, classifier_free_guidance(NULL, TEXT, 7.5))


def test_no_negatives_are_classifier_free_guidance() -> None:
    guided = perpendicular_negatives(NULL, TEXT, NEGATIVES[:, :0], WEIGHTS[:, :0], 7.5)
    assert torch.equal(guided, classifier_free_guidance(NULL, TEXT, 7.5))


@pytest.mark.parametrize("factor", [0.5, 1.0, -2.0])
def test_a_negative_parallel_to_the_positive_has_no_effect(factor: float) -> None:
    parallel = (NULL + factor * (TEXT - NULL)).unsqueeze(1)
    guided = perpendicular_negatives(NULL, TEXT, parallel, WEIGHTS[:, :1], 7.5)
    assert_same(guided, classifier_free_guidance(NULL, TEXT, 7.5))


def test_negatives_leave_the_pull_towards_the_positive_unchanged() -> None:
    towards = TEXT - NULL
    plain = classifier_free_guidance(NULL, TEXT, 7.5) - NULL
    guided = perpendicular_negatives(NULL, TEXT, NEGATIVES, WEIGHTS, 7.5) - NULL
    assert_same((guided * towards).sum((1, 2, 3)), (plain * towards).sum((1, 2, 3)))


def test_a_scale_for_each_sample_reaches_perpendicular_negatives() -> None:
    scales = torch.tensor([1.0, 7.5, 100.0], dtype=torch.float64)
    together = perpendicular_negatives(NULL, TEXT, NEGATIVES, WEIGHTS, scales)
    for i in range(3):
        alone = perpendicular_negatives(NULL, TEXT, NEGATIVES, WEIGHTS, float(scales[i]))
        assert_same(together[i], alone[i])


def test_a_positive_equal_to_the_null_stays_finite() -> None:
    guided = perpendicular_negatives(NULL, NULL, NEGATIVES, WEIGHTS, 7.5)
    assert bool(torch.isfinite(guided).all())
