"""Each weight against its formula and the numbers that the fact sheets print."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from sd_core.noising import NoiseSchedule
from sd_core.weighting import WEIGHTINGS, Weighting, weight

SCHEDULE = NoiseSchedule.scaled_linear()
T = torch.tensor([20, 250, 500, 750, 980])
LIKE = torch.zeros(5, 1, 1, 1, dtype=torch.float64)

# From α = √ᾱ and σ = √(1 − ᾱ) at T, rounded to the digits shown.
PRINTED: dict[Weighting, list[float]] = {
    "sigma-squared": [0.019, 0.326, 0.724, 0.944, 0.994],
    "uniform": [1.0, 1.0, 1.0, 1.0, 1.0],
    "sigma-over-alpha": [0.138, 0.70, 1.62, 4.10, 13.0],
    "alpha-over-sigma": [7.3, 1.44, 0.62, 0.244, 0.077],
    "alpha-sigma": [0.136, 0.469, 0.447, 0.230, 0.076],
    "alpha-sigma-squared": [0.0185, 0.268, 0.380, 0.223, 0.0758],
}


def of(name: Weighting) -> Tensor:
    return weight(name, SCHEDULE, T, LIKE)


def test_every_name_has_a_weight_and_every_weight_a_name() -> None:
    assert set(WEIGHTINGS) == set(get_args(Weighting)) == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_weights_have_their_printed_values(name: Weighting) -> None:
    assert of(name).flatten().tolist() == pytest.approx(PRINTED[name], rel=0.03)


def test_sigma_squared_is_one_minus_the_cumulative_product() -> None:
    expected = 1 - SCHEDULE.alphas[T].square()
    torch.testing.assert_close(of("sigma-squared").flatten(), expected, atol=1e-14, rtol=0)


def test_alpha_sigma_is_the_jsd_prefactor_with_sigma_squared() -> None:
    product = of("sigma-squared") * of("alpha-over-sigma")
    torch.testing.assert_close(of("alpha-sigma"), product, atol=1e-14, rtol=0)


def test_sigma_over_alpha_and_alpha_over_sigma_are_reciprocal() -> None:
    product = of("sigma-over-alpha") * of("alpha-over-sigma")
    torch.testing.assert_close(product, torch.ones_like(product), atol=1e-14, rtol=0)


def test_alpha_sigma_never_exceeds_a_half_where_variance_is_preserved() -> None:
    every = weight("alpha-sigma", SCHEDULE, torch.arange(1000), torch.zeros(1000, 1, 1, 1).double())
    assert float(every.max()) <= 0.5


@pytest.mark.parametrize("name", PRINTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_broadcast_over_latents_in_their_dtype(name: Weighting, dtype: torch.dtype) -> None:
    weights = weight(name, SCHEDULE, T, torch.zeros(5, 4, 8, 8, dtype=dtype))
    assert weights.shape == (5, 1, 1, 1)
    assert weights.dtype == dtype


def test_weights_work_on_rectified_flow() -> None:
    flow = NoiseSchedule.rectified_flow(steps=4)
    weights = weight(
        "sigma-over-alpha", flow, torch.tensor([1, 2]), torch.zeros(2, 1, 1, 1).double()
    )
    torch.testing.assert_close(weights.flatten(), torch.tensor([1.0, 3.0]).double())
