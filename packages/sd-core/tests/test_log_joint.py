"""The exact priors' log p(x_t, k): its posterior means are the denoiser they tell."""

import pytest
import torch
from torch import Generator

from sd_core.priors.image_bank import ImageBankPrior
from sd_core.testing import exact

T = torch.tensor([50, 400, 900])


def test_of_a_mixture_it_is_the_weighted_density_of_each_member():
    prior = exact.mixture_prior(dtype=torch.float64)
    noisy = exact.some_latents(prior, 3).double()
    everything = prior.encode_text([""] * 3)
    found = prior.log_joint(noisy, T, everything)
    for member, text in enumerate(("a red bear", "a blue fox")):
        alone = prior.log_density(noisy, T, prior.encode_text([text] * 3))
        weight = (0.7, 0.3)[member]
        torch.testing.assert_close(found[:, member], alone + torch.tensor(weight).double().log())


@pytest.mark.parametrize("text", ["", "one"])
def test_of_a_bank_its_posterior_gives_the_denoiser(text):
    pictures = torch.rand(5, 1, 2, 2, generator=Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    prior = ImageBankPrior(pictures, [["one"], ["one"], ["two"], ["two"], ["two"]], weights=weights)
    noisy, condition = exact.some_latents(prior, 3).double(), prior.encode_text([text] * 3)
    posterior = prior.log_joint(noisy, T, condition).softmax(dim=1)
    clean = (posterior @ (2 * pictures - 1).flatten(1)).view_as(noisy)
    alpha, sigma = prior.schedule.alpha(T, noisy), prior.schedule.sigma(T, noisy)
    expected = (noisy - alpha * clean) / sigma
    torch.testing.assert_close(prior.predict_noise(noisy, T, condition), expected)
    assert bool((posterior[:, 2:] > 0).all()) == (text == "")


def test_members_that_the_text_leaves_out_have_none():
    prior = exact.mixture_prior(dtype=torch.float64)
    noisy = exact.some_latents(prior, 3).double()
    found = prior.log_joint(noisy, T, prior.encode_text(["a blue fox"] * 3))
    assert bool(found[:, 0].isneginf().all() and found[:, 1].isfinite().all())
