"""A classifier of x_t itself: which template, noised alike, it is nearest to.

Of x̂0, a network's guess from much noise, no classifier can say more than the network sees; and a
network that has mostly seen fronts sees one in nearly all noise. The templates have no such taste.
"""

import torch
from torch import Tensor

from sd_core.condition import Condition
from sd_core.errors import ConfigError
from sd_core.prior import AbstractPrior
from sd_core.priors.bank import bank_log_likelihood
from sd_core.shapes import Latents, Timesteps
from sd_guidance_usd.matching import Templates
from sd_guidance_usd.rectifier import LogProbabilities


class NoisedTemplates:
    """p(c|x_t) ∝ N(x_t; α·x_c, σ²I), x_c the latents of c's template: all classes as frequent."""

    def __init__(self, templates: Templates, prior: AbstractPrior) -> None:
        self.classes = templates.classes
        self.prior = prior
        with torch.no_grad():
            encoded = [prior.encode(picture[None]) for picture in templates.pictures]
        self.latents: Tensor = torch.cat(encoded)
        if self.latents.shape[1:] != prior.latent_shape:
            raise ConfigError(
                f"the templates are {list(self.latents.shape[1:])} as the prior sees them, its own "
                f"pictures are {list(prior.latent_shape)}. Set guidance.classifier.templates to "
                "pictures of that size."
            )

    def log_of_noisy(self, noisy: Latents, t: Timesteps, condition: Condition) -> LogProbabilities:
        # A difference of large numbers at small t: half precision would leave nothing of it.
        noisy = noisy.to(torch.promote_types(noisy.dtype, torch.float32))
        alpha = self.prior.schedule.alpha(t, noisy)
        sigma = self.prior.schedule.sigma(t, noisy)
        return bank_log_likelihood(noisy, self.latents.to(noisy), alpha, sigma).log_softmax(dim=1)
