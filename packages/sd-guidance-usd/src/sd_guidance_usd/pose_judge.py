"""From a noised batch to p(c|x_t) and ∇_{x_t} log r."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sd_core.noising import Noised
from sd_core.parameterisation import clean_from_noise
from sd_core.prior import AbstractPrior
from sd_core.shapes import Latents, PerSample
from sd_guidance_usd.classifier import ExactNoisyClassifier, NoisyClassifier, PictureClassifier
from sd_guidance_usd.latent_slope import latent_slope
from sd_guidance_usd.rectifier import LogProbabilities, Probabilities, Shares

Jacobian = Literal["full", "vae", "none"]
LogRectifier = Callable[[LogProbabilities], PerSample]


class AbstractPoseJudge(ABC):
    """Asks a classifier of a noised batch, whose x̂0 follows from the prior's ε."""

    # Whether ε must carry the network's graph, from `noised.noisy`.
    needs_graph: bool = False
    # Whether it looks at ε at all.
    needs_noise: bool = True
    # Whether every class counts as equally frequent, p ∝ p(x_t|c): how frequent each is, USD has
    # to count in.
    of_equal_shares: bool = False

    @abstractmethod
    def probabilities(self, noised: Noised, noise: Latents) -> Probabilities:
        """p(c|x_t), or p(c|x̂0) in its place."""

    @abstractmethod
    def slope(
        self, noised: Noised, noise: Latents, log_r: LogRectifier
    ) -> tuple[Probabilities, Latents]:
        """p(c|x_t) and ∇_{x_t} log r, both without a graph."""

    def known_shares(self) -> Shares | None:
        """p(c|y) in the prior's own pictures, if it is known without looking at any."""
        return None


class NoisyJudge(AbstractPoseJudge):
    """Of a classifier that is asked of x_t itself."""

    needs_noise = False

    def __init__(self, classifier: NoisyClassifier, prior: AbstractPrior, prompt: str) -> None:
        self.classifier = classifier
        self.prior = prior
        self.prompt = prompt

    def probabilities(self, noised: Noised, noise: Latents) -> Probabilities:
        return self._of(noised.noisy, noised).exp()

    def slope(
        self, noised: Noised, noise: Latents, log_r: LogRectifier
    ) -> tuple[Probabilities, Latents]:
        with torch.enable_grad():
            noisy = noised.noisy.detach().requires_grad_()
            seen = self._of(noisy, noised)
            return seen.detach().exp(), _slope(log_r(seen), noisy)

    def _of(self, noisy: Latents, noised: Noised) -> LogProbabilities:
        text = self.prior.encode_text([self.prompt] * len(noised))
        return self.classifier.log_of_noisy(noisy, noised.t, text)


class ExactJudge(NoisyJudge):
    """Of a classifier that knows p(c|x_t)."""

    classifier: ExactNoisyClassifier

    def known_shares(self) -> Shares:
        return self.classifier.shares(self.prior.encode_text([self.prompt]))


class LikelihoodJudge(NoisyJudge):
    """Of a classifier that knows p(x_t|c), up to a factor that is the same for every class."""

    of_equal_shares = True


class PictureJudge(AbstractPoseJudge):
    """Of a classifier of pictures, asked at x̂0.

    | jacobian | ∇_{x_t} log r                                 | goes back through            |
    |----------|-----------------------------------------------|------------------------------|
    | full     | exactly                                       | classifier, decoder, network |
    | vae      | α·∇_{x̂0} log r                                | classifier, decoder          |
    | none     | the same, a linear map in the decoder's place | classifier                   |

    ∂x̂0/∂x_t is (α/σ²)·Cov(x0|x_t), which is α·I where the prior's latents are N(0, I).
    """

    def __init__(
        self, classifier: PictureClassifier, prior: AbstractPrior, jacobian: Jacobian
    ) -> None:
        self.classifier = classifier
        self.prior = prior
        self.jacobian = jacobian
        self.needs_graph = jacobian == "full"

    def probabilities(self, noised: Noised, noise: Latents) -> Probabilities:
        return self._of(self._clean(noised, noise)).exp()

    def slope(
        self, noised: Noised, noise: Latents, log_r: LogRectifier
    ) -> tuple[Probabilities, Latents]:
        with torch.enable_grad():
            clean = self._clean(noised, noise)
            if self.jacobian == "full":
                seen = self._of(clean)
                return seen.detach().exp(), _slope(log_r(seen), noised.noisy)
        seen, at_clean = self._at_clean(clean.detach(), log_r)
        return seen.detach().exp(), self.prior.schedule.alpha(noised.t, clean) * at_clean

    def _at_clean(self, clean: Latents, log_r: LogRectifier) -> tuple[LogProbabilities, Latents]:
        """log p(c|x̂0) and ∇_{x̂0} log r."""
        with torch.set_grad_enabled(self.jacobian == "vae"):
            clean = clean.requires_grad_(self.jacobian == "vae")
            images = self.prior.decode(clean)
        with torch.enable_grad():
            if self.jacobian == "none":
                images = images.requires_grad_()
            seen = self.classifier.log_probabilities(images)
            if self.jacobian == "vae":
                return seen, _slope(log_r(seen), clean)
            slope = _slope(log_r(seen), images)
        return seen, latent_slope(clean, images.detach(), slope)

    def _of(self, clean: Latents) -> LogProbabilities:
        return self.classifier.log_probabilities(self.prior.decode(clean))

    def _clean(self, noised: Noised, noise: Latents) -> Latents:
        """x̂0, by Tweedie's formula."""
        alpha = self.prior.schedule.alpha(noised.t, noised.noisy)
        sigma = self.prior.schedule.sigma(noised.t, noised.noisy)
        return clean_from_noise(noised.noisy, noise, alpha=alpha, sigma=sigma)


def _slope(log_r: PerSample, of: Tensor) -> Tensor:
    """Samples do not mix, so that the gradient of the sum holds each sample's own."""
    (slope,) = torch.autograd.grad(log_r.sum(), of)
    return slope
