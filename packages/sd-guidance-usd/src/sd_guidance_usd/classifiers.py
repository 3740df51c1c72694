"""The classifier that the options name."""

from importlib import import_module
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from sd_core.errors import ConfigError
from sd_core.guidance import GuidanceContext
from sd_core.priors.exact import ExactPrior
from sd_core.shapes import Images
from sd_guidance_usd.classifier import PictureClassifier
from sd_guidance_usd.exact_classifier import ExactClassifier
from sd_guidance_usd.features import FeatureExtractor
from sd_guidance_usd.matching import MatchingClassifier
from sd_guidance_usd.options import USDOptions
from sd_guidance_usd.pose_judge import AbstractPoseJudge, NoisyJudge, PictureJudge
from sd_guidance_usd.rectifier import LogProbabilities, wanted_shares
from sd_guidance_usd.templates import (
    choose_templates,
    class_names,
    load_templates,
    with_mirrored,
)

# Where neither the options nor the prior name an encoder: the paper's.
USUAL_ENCODER = "facebook/dinov2-small"


def build_judge(
    config: USDOptions, context: GuidanceContext
) -> tuple[tuple[str, ...], AbstractPoseJudge]:
    """The names of the classes, and who tells them apart."""
    options, prior, text = config.classifier, context.prior, context.prompt.text
    kind = options.kind or ("exact" if isinstance(prior, ExactPrior) else "matching")
    if kind == "exact":
        exact = ExactClassifier(prior, text, options.phrases)
        return exact.classes, NoisyJudge(exact, prior, text)
    classifier: PictureClassifier
    if kind == "matching":
        classifier = build_matching(config, context)
    else:
        classifier = OwnClassifier(kind, prior.device)
    return classifier.classes, PictureJudge(classifier, prior, config.jacobian)


def build_matching(config: USDOptions, context: GuidanceContext) -> MatchingClassifier:
    """Its templates from the folder, or from the prior; the same for the same seed of the run."""
    options, prior = config.classifier, context.prior
    model = options.model or prior.image_encoder or USUAL_ENCODER
    extractor = FeatureExtractor(model, device=prior.device, size=options.size)
    seed = int(torch.randint(2**62, ()))  # of the state that the experiment has seeded
    generator = Generator(prior.device).manual_seed(seed)
    if options.templates is not None:
        templates = load_templates(Path(options.templates), options.mirrored)
    else:
        # A slip is told before the prior makes any picture.
        classes = class_names(tuple(options.phrases), options.mirrored)
        wanted_shares(classes, config.wanted, config.only)
        texts = {
            name: f"{context.prompt.text}, {phrase}" for name, phrase in options.phrases.items()
        }
        chosen = choose_templates(
            prior, texts, extractor, candidates=options.candidates, generator=generator
        )
        templates = with_mirrored(chosen, options.mirrored)
    return MatchingClassifier(templates, extractor=extractor, options=options, generator=generator)


class OwnClassifier:
    """A callable of the user's own, package.module:name, from pictures to probabilities."""

    def __init__(self, name: str, device: torch.device) -> None:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"guidance.classifier.kind is '{name}', but it cannot be loaded ({error}). Use "
                "matching, exact, or package.module:name of something that is installed."
            ) from None
        if isinstance(found, type) or not callable(found) or not getattr(found, "classes", ()):
            raise ConfigError(
                f"guidance.classifier.kind is '{name}', which is not a callable from pictures to "
                "probabilities with the names of its classes in `classes`. Name such an object."
            )
        if isinstance(found, nn.Module):
            found.to(device).eval().requires_grad_(False)
        self.classes = tuple(found.classes)
        self._asked = found

    def log_probabilities(self, images: Images) -> LogProbabilities:
        probabilities: Tensor = self._asked(images)
        return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
