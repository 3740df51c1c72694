"""Pictures of a text that the prior itself makes."""

from dataclasses import dataclass

import torch
from torch import Generator

from sd_core.condition import Texts
from sd_core.noising import Noised
from sd_core.prior import AbstractPrior
from sd_core.sampling import ddim_sample
from sd_core.shapes import Latents

AT_ONCE = 8


@dataclass(frozen=True)
class PriorPictures:
    """The prior's own pictures of a text: how many, and how they are made."""

    prior: AbstractPrior
    text: str
    negative: str
    scale: float
    count: int
    steps: int

    def sample(self, generator: Generator) -> Latents:
        shape = self.count, *self.prior.latent_shape
        noise = torch.randn(shape, generator=generator, device=self.prior.device)
        made = [
            ddim_sample(
                self.prior,
                some,
                [self.text] * len(some),
                negative=self.negative,
                scale=self.scale,
                steps=self.steps,
            )
            for some in torch.split(noise, AT_ONCE)
        ]
        return torch.cat(made)

    def predict(self, noised: Noised, *, scale: float) -> Latents:
        """The guided ε, from which x̂0 follows."""
        text, negative = (
            self.prior.encode_text([told] * len(noised)) for told in (self.text, self.negative)
        )
        texts = Texts(text, negative)
        return self.prior.predict_guided(noised.noisy, noised.t, texts, scale=scale)
