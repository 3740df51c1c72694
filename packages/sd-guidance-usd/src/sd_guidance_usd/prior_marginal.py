"""p_t(c|y) of the prior's own pictures, found once by sampling."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from sd_core.noising import draw
from sd_guidance_usd.marginal import Marginal
from sd_guidance_usd.pose_judge import AbstractPoseJudge
from sd_guidance_usd.prior_pictures import AT_ONCE, PriorPictures
from sd_guidance_usd.rectifier import Shares


@torch.no_grad()
def sampled_marginal(
    marginal: Marginal,
    pictures: PriorPictures,
    judge: AbstractPoseJudge,
    *,
    generator: Generator,
    judged_scale: float,
) -> Float[Tensor, "bins classes"]:
    """p_t(c) = mean of p(c|x_t) over x_t = α·x0 + σ·ε, in the middle of each interval of t."""
    schedule, drawn = pictures.prior.schedule, pictures.sample(generator)
    shares = []
    for place in range(len(marginal.shares)):
        seen = []
        for some in torch.split(drawn, AT_ONCE):
            t = torch.full((len(some),), marginal.middle(place), device=some.device)
            noised = draw(schedule, some, t, generator)
            seen.append(judge.probabilities(noised, pictures.predict(noised, scale=judged_scale)))
        shares.append(torch.cat(seen).mean(dim=0))
    return torch.stack(shares)


@torch.no_grad()
def sampled_shares(
    pictures: PriorPictures, judge: AbstractPoseJudge, *, generator: Generator
) -> Shares:
    """p(c|y), of which p_t(c) = E p(c|x_t) is at every t: (Σ p(c|x) + 1)/(n + classes).

    Asked where there is the least noise. The 1 keeps a class that no picture shows from counting
    for infinitely much.
    """
    seen = []
    for some in torch.split(pictures.sample(generator), AT_ONCE):
        least = torch.zeros(len(some), dtype=torch.long, device=some.device)
        noised = draw(pictures.prior.schedule, some, least, generator)
        seen.append(judge.probabilities(noised, noised.noise))
    counted = torch.cat(seen).sum(dim=0) + 1
    return counted / counted.sum()
