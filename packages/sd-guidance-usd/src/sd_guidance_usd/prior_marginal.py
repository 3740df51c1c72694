"""p_t(c|y) of the prior's own pictures, found once by sampling."""

from dataclasses import dataclass

import torch
from torch import Generator

from sd_core.noising import Noised, draw
from sd_core.prior import AbstractPrior
from sd_core.sampling import ddim_sample
from sd_core.shapes import Latents
from sd_guidance_usd.marginal import Marginal
from sd_guidance_usd.pose_judge import AbstractPoseJudge

_AT_ONCE = 8


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
            for some in torch.split(noise, _AT_ONCE)
        ]
        return torch.cat(made)

    def predict(self, noised: Noised) -> Latents:
        """The guided ε, from which x̂0 follows."""
        told = self.prior.encode_text([self.text] * len(noised))
        negative = self.prior.encode_text([self.negative] * len(noised))
        return self.prior.predict_guided(noised.noisy, noised.t, told, negative, scale=self.scale)


@torch.no_grad()
def measure_marginal(
    marginal: Marginal, pictures: PriorPictures, *, judge: AbstractPoseJudge, generator: Generator
) -> None:
    """p_t(c) = mean of p(c|x_t) over x_t = α·x0 + σ·ε, in the middle of each interval of t."""
    schedule, drawn = pictures.prior.schedule, pictures.sample(generator)
    for place in range(len(marginal.shares)):
        seen = []
        for some in torch.split(drawn, _AT_ONCE):
            t = torch.full((len(some),), marginal.middle(place), device=some.device)
            noised = draw(schedule, some, t, generator)
            seen.append(judge.probabilities(noised, pictures.predict(noised)))
        marginal.put(place, torch.cat(seen).mean(dim=0))
