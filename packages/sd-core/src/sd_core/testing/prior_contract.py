"""What every prior promises."""

import pytest
import torch
from torch import Generator, Tensor

from sd_core.prior import AbstractPrior
from sd_core.testing import exact
from sd_core.testing.contract import Contract


class PriorContract(Contract):
    """What every prior promises."""

    prompts: tuple[str, str] = (exact.PROMPT, "a blue fox")
    picture_size: tuple[int, int] | None = None  # of what `encode` is given; None: the latents'
    tolerance: float = 1e-4

    def make(self) -> AbstractPrior:
        """The prior under test. Override this."""
        raise NotImplementedError

    @pytest.fixture
    def prior(self) -> AbstractPrior:
        return self.make()

    def test_noise_has_the_shape_and_type_of_the_latents(self, prior: AbstractPrior) -> None:
        noisy, t = _noisy(prior, 3)
        noise = prior.predict_noise(noisy, t, prior.encode_text([self.prompts[0]] * 3))
        assert noise.shape == noisy.shape
        assert noise.dtype == noisy.dtype
        assert noise.isfinite().all()

    def test_a_batch_equals_its_samples_one_by_one(self, prior: AbstractPrior) -> None:
        noisy, t = _noisy(prior, 3)
        texts = [self.prompts[0], self.prompts[1], ""]
        whole = prior.predict_noise(noisy, t, prior.encode_text(texts))
        for i, text in enumerate(texts):
            alone = prior.predict_noise(noisy[i : i + 1], t[i : i + 1], prior.encode_text([text]))
            torch.testing.assert_close(
                whole[i : i + 1], alone, rtol=self.tolerance, atol=self.tolerance
            )

    def test_several_conditions_in_one_call_equal_several_calls(self, prior: AbstractPrior) -> None:
        noisy, t = _noisy(prior, 2)
        conditions = [prior.encode_text([text] * 2) for text in (*self.prompts, "")]
        together = prior.predict_noises(noisy, t, conditions)
        for noise, condition in zip(together, conditions, strict=True):
            alone = prior.predict_noise(noisy, t, condition)
            torch.testing.assert_close(noise, alone, rtol=self.tolerance, atol=self.tolerance)
        others = [noisy * (1 + index) for index in range(len(conditions))]
        apart = prior.predict_noises(others, t, conditions)
        for noise, other, condition in zip(apart, others, conditions, strict=True):
            alone = prior.predict_noise(other, t, condition)
            torch.testing.assert_close(noise, alone, rtol=self.tolerance, atol=self.tolerance)

    def test_prompts_matter(self, prior: AbstractPrior) -> None:
        noisy, t = _noisy(prior, 2)
        first, second = (
            prior.predict_noise(noisy, t, prior.encode_text([text] * 2)) for text in self.prompts
        )
        assert not torch.allclose(first, second)

    def test_it_is_differentiable_in_the_latents(self, prior: AbstractPrior) -> None:
        noisy, t = _noisy(prior, 2)
        noisy.requires_grad_(True)
        noise = prior.predict_noise(noisy, t, prior.encode_text([self.prompts[0]] * 2))
        (slope,) = torch.autograd.grad(noise.square().sum(), noisy)
        assert slope.isfinite().all() and slope.abs().sum() > 0

    def test_encoding_keeps_the_graph_and_gives_the_latent_shape(
        self, prior: AbstractPrior
    ) -> None:
        channels, height, width = prior.latent_shape
        if self.picture_size is not None:
            channels, (height, width) = 3, self.picture_size
        images = torch.rand(2, channels, height, width, generator=Generator().manual_seed(0))
        images = images.to(prior.device).requires_grad_(True)
        latents = prior.encode(images)
        assert latents.shape == (2, *prior.latent_shape)
        (slope,) = torch.autograd.grad(latents.square().sum(), images)
        assert slope.isfinite().all() and slope.abs().sum() > 0
        assert prior.decode(latents).shape == images.shape

    def test_global_random_state_stays_untouched(self, prior: AbstractPrior) -> None:
        before = torch.get_rng_state()
        noisy, t = _noisy(prior, 2)
        prior.predict_noise(noisy, t, prior.encode_text([self.prompts[0]] * 2))
        assert torch.equal(torch.get_rng_state(), before)


def _noisy(prior: AbstractPrior, count: int) -> tuple[Tensor, Tensor]:
    t = torch.linspace(1, len(prior.schedule) - 2, count).long().to(prior.device)
    return exact.some_latents(prior, count), t
