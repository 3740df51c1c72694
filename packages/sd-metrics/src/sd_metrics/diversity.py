"""How unlike the objects are that a method makes of one prompt: `iv-particles`,
`feature-similarity`.

JSD (Do et al. 2025, table 2), after DiverseDream: particles i are runs of one prompt from other
seeds, c are their views.

    IV = H[E_{i,c}[p(y|g(θ_i, c))]]        their eq. of IV; each particle counts alike
    similarity = mean over i < j of cos(f(g(θ_i, c)), f(g(θ_j, c')))

They took InceptionV3, DINO and 120 views, and do not say which pairs of views were compared. Here
c' = c; with pairs = "all", for pictures whose views do not match, every view of one is compared
with every view of the other, which gives lower numbers. Both numbers are means over prompts.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sd_core.cameras import CameraBatch
from sd_core.config import Options, option
from sd_core.encoders.features import FeatureExtractor
from sd_core.encoders.model_recipe import model_recipe
from sd_core.encoders.pretrained import VISION_FILES
from sd_core.entropy import entropy_of_mean
from sd_core.errors import ConfigError
from sd_core.metric import AbstractMetric, MetricContext
from sd_core.shapes import Images
from sd_metrics.classifiers import ClassifierOptions, build_classifier
from sd_metrics.per_view import PerView, read_in_parts

# Of one particle, a row for each view; each particle may have another number of them.
Particle = Float[Tensor, "_ values"]


Pairs = Literal["same-view", "all"]


class FeatureOptions(Options):
    """Whose eyes."""

    model: str | None = option(
        None,
        "A vision transformer, a folder or an id of the hub. By default the one that suits the "
        "prior; for photographs facebook/dinov2-base.",
        min_length=1,
    )
    pairs: Pairs = option(
        "same-view",
        "Which views of two objects are compared: same-view, the first with the first and so on; "
        "all, each with each, which gives lower numbers.",
    )


def variety_of_particles(particles: Sequence[Particle]) -> float:
    """H[E_i[E_c[p]]] of the probabilities of one prompt's particles, which all count alike."""
    means = [each.double().mean(dim=0) for each in particles]
    return entropy_of_mean(torch.stack(means))


def similarity_of_particles(particles: Sequence[Particle], pairs: Pairs = "same-view") -> float:
    """The mean cosine of features of two different particles of one prompt, of two or more.

    At the same view, of which all must have as many, or over all pairs of views.
    """
    unit = [normalize(each.double(), dim=1) for each in particles]
    if pairs == "same-view":
        stacked = torch.stack(unit)
        cosines = torch.einsum("ivw,jvw->ij", stacked, stacked) / stacked.shape[1]
    else:
        # The mean over all pairs of rows of f·f' is the product of the means.
        means = torch.stack([each.mean(dim=0) for each in unit])
        cosines = means @ means.T
    first, second = torch.triu_indices(len(unit), len(unit), offset=1)
    return float(cosines[first, second].mean())


class AbstractParticlesMetric(AbstractMetric):
    """Of all the objects of a method: each is one particle of its prompt."""

    scope: Literal["object", "method"] = "method"

    def __init__(self) -> None:
        self.reset()

    @abstractmethod
    def read(self, images: Images) -> PerView:
        """The numbers of each view, which depend on no other view."""

    @abstractmethod
    def of_prompt(self, prompt: str, particles: Sequence[Particle]) -> float:
        """The number of one prompt, or an error that says what it lacks."""

    def reset(self) -> None:
        self._particles: dict[str, list[Particle]] = {}
        self._own: dict[str, list[Particle]] = {}

    def update(self, images: Images, prompt: str, cameras: CameraBatch | None) -> None:
        self._own.setdefault(prompt, []).append(read_in_parts(self.read, images))

    def drop_object(self) -> None:
        self._own = {}

    def end_object(self, name: str) -> None:
        for prompt, parts in self._own.items():
            self._particles.setdefault(prompt, []).append(torch.cat(parts))
        self._own = {}

    def mean_over_prompts(self) -> float:
        if not self._particles:
            raise ConfigError(
                "there is no object of any prompt yet. Update the metric before it computes."
            )
        values = [self.of_prompt(*item) for item in self._particles.items()]
        return sum(values) / len(values)


class ParticleVariety(AbstractParticlesMetric):
    """iv-particles    nats; with one particle a prompt it is the mean IV of the objects"""

    higher_is_better: ClassVar[bool | None] = True

    def __init__(self, options: ClassifierOptions, context: MetricContext) -> None:
        super().__init__()
        self._classifier = build_classifier(options, context)

    def read(self, images: Images) -> PerView:
        return self._classifier.probabilities(images)

    def of_prompt(self, prompt: str, particles: Sequence[Particle]) -> float:
        if sum(map(len, particles)) < 2:
            raise ConfigError(
                f"there is one picture of '{prompt}', expected two or more. Evaluate more views, "
                "or several seeds of each prompt."
            )
        return variety_of_particles(particles)

    def compute(self) -> dict[str, float]:
        return {"iv-particles": self.mean_over_prompts()}

    def recipe(self) -> dict[str, Any]:
        return {**self._classifier.recipe(), "logarithm": "natural"}


class FeatureSimilarity(AbstractParticlesMetric):
    """feature-similarity    -1 to 1; 1 where a prompt always becomes the same object"""

    higher_is_better: ClassVar[bool | None] = False

    def __init__(self, options: FeatureOptions, context: MetricContext) -> None:
        super().__init__()
        self._model, self._pairs = options.model or context.encoders.features, options.pairs
        self._extractor = FeatureExtractor(self._model, device=context.device)

    def read(self, images: Images) -> PerView:
        return self._extractor(images).whole

    def of_prompt(self, prompt: str, particles: Sequence[Particle]) -> float:
        if len(particles) < 2:
            raise ConfigError(
                f"there is one object of '{prompt}', and likeness is between two. Evaluate "
                "several seeds of each prompt, or leave feature-similarity out."
            )
        counts = sorted({len(each) for each in particles})
        if self._pairs == "same-view" and len(counts) > 1:
            raise ConfigError(
                f"the objects of '{prompt}' have {' and '.join(map(str, counts))} pictures, and "
                "likeness is measured at the same view. Give each as many, or compare every "
                "picture with every other: --set feature-similarity.pairs=all."
            )
        return similarity_of_particles(particles, self._pairs)

    def compute(self) -> dict[str, float]:
        return {"feature-similarity": self.mean_over_prompts()}

    def recipe(self) -> dict[str, Any]:
        return {
            "features": model_recipe(self._model, VISION_FILES),
            "size": self._extractor.size,
            "pairs": self._pairs,
        }
