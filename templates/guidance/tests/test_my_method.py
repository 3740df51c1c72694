import torch
from torch import Generator

from sd_core.guidance import GuidanceContext
from sd_core.noising import add_noise
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.contracts import GuidanceContract
from sd_guidance_my_method.my_method import MyMethod, MyMethodOptions


class TestMyMethod(GuidanceContract):
    """It keeps what every method promises."""

    def make(self, context: GuidanceContext) -> MyMethod:
        return MyMethod(MyMethodOptions(), context)


def test_the_gradient_is_the_prior_minus_a_share_of_the_noise():
    prior = exact.mixture_prior()
    options = MyMethodOptions(scale=1, strength=0.25, weight="uniform")
    latents = exact.some_latents(prior, 4)
    cameras, step = exact.some_cameras(4), Step(0, 10)

    def generator() -> Generator:
        return Generator().manual_seed(0)

    method = MyMethod(options, exact.guidance_context(prior))
    noised = method.noised(latents, cameras, step=step, generator=generator())
    noisy = add_noise(prior.schedule, latents, noised.noise, noised.t)
    predicted = prior.predict_noise(noisy, noised.t, prior.encode_text([exact.PROMPT] * 4))
    guided = method.gradient(latents, cameras, step=step, generator=generator())
    torch.testing.assert_close(guided.gradient, predicted - 0.25 * noised.noise)
