"""Which class a picture shows: what USD asks, and who may answer."""

from typing import Protocol, runtime_checkable

from sd_core.condition import Condition
from sd_core.shapes import Images, Latents, Timesteps
from sd_guidance_usd.rectifier import LogProbabilities, Shares


@runtime_checkable
class PictureClassifier(Protocol):
    """log p(c|x0) of pictures in about [0, 1], differentiable in them."""

    classes: tuple[str, ...]

    def log_probabilities(self, images: Images) -> LogProbabilities: ...


@runtime_checkable
class NoisyClassifier(Protocol):
    """log p(c|x_t) itself, where it is known without a look at x̂0."""

    classes: tuple[str, ...]

    def log_of_noisy(
        self, noisy: Latents, t: Timesteps, condition: Condition
    ) -> LogProbabilities: ...


@runtime_checkable
class ExactNoisyClassifier(NoisyClassifier, Protocol):
    """One that also knows how frequent each class is, and counts that in."""

    def shares(self, condition: Condition) -> Shares:
        """p(c|y), which is the same at every t."""
        ...
