"""The classifier that the options name."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from sd_core.encoders.clip import USUAL_CLIP, reads_texts
from sd_core.encoders.features import Extractor, FeatureExtractor
from sd_core.errors import ConfigError
from sd_core.guidance import GuidanceContext
from sd_core.prior import AbstractPrior
from sd_core.priors.exact import ExactPrior
from sd_core.shapes import Images, Saliency
from sd_guidance_usd.candidates import choose_templates
from sd_guidance_usd.classifier import PictureClassifier
from sd_guidance_usd.exact_classifier import ExactClassifier
from sd_guidance_usd.matching import MatchingClassifier, Templates
from sd_guidance_usd.noised_templates import NoisedTemplates
from sd_guidance_usd.options import ClassifierOptions, USDOptions
from sd_guidance_usd.phrases import text_of
from sd_guidance_usd.pose_judge import AbstractPoseJudge, ExactJudge, LikelihoodJudge, PictureJudge
from sd_guidance_usd.rectifier import LogProbabilities, wanted_shares
from sd_guidance_usd.templates import (
    Pictures,
    check_file_names,
    class_names,
    kept_pictures,
    load_pictures,
    with_mirrored,
)
from sd_guidance_usd.text_classifier import TextClassifier

# Where neither the options nor the prior name an encoder: the paper's.
USUAL_ENCODER = "facebook/dinov2-small"


def build_judge(
    config: USDOptions, context: GuidanceContext
) -> tuple[tuple[str, ...], AbstractPoseJudge]:
    """The names of the classes, and who tells them apart."""
    options, prior, text = config.classifier, context.prior, context.prompt.text
    kind = options.kind or ("exact" if isinstance(prior, ExactPrior) else "matching")
    if kind == "exact":
        for name in config.told_beside_exact():
            raise ConfigError(
                f"guidance.{name} has no effect on the kind exact, which it is with a prior that "
                'is known exactly unless told. Set guidance.classifier.kind = "matching", or '
                f"remove {name.rpartition('.')[2]}."
            )
        exact = ExactClassifier(prior, text, options.phrases)
        return exact.classes, ExactJudge(exact, prior, text)
    if kind == "noised":
        for name in config.told_beside_noised():
            raise ConfigError(
                f"guidance.{name} has no effect on the kind noised, which judges x_t itself. Set "
                f'guidance.classifier.kind = "matching", or remove {name}.'
            )
        noised = build_noised(config, context)
        return noised.classes, LikelihoodJudge(noised, prior, text)
    classifier: PictureClassifier
    if kind == "matching":
        classifier = build_matching(config, context)
    elif kind == "text":
        classifier = build_text(config, context)
    else:
        classifier = OwnClassifier(kind, prior.device)
    return classifier.classes, PictureJudge(classifier, prior, config.jacobian)


def build_matching(config: USDOptions, context: GuidanceContext) -> MatchingClassifier:
    """Its templates' copies are the same for the same seed of the run."""
    options, prior = config.classifier, context.prior
    extractor = build_extractor(options, prior)
    copying = _next_generator(prior)
    templates = find_templates(config, context, lambda: extractor)
    if options.polarity == "attention":
        templates = replace(templates, saliency=_attention(context, templates.pictures))
    return MatchingClassifier(templates, extractor=extractor, options=options, generator=copying)


def build_noised(config: USDOptions, context: GuidanceContext) -> NoisedTemplates:
    """An encoder is needed only to choose among pictures that the prior makes."""
    extractor = partial(build_extractor, config.classifier, context.prior)
    return NoisedTemplates(find_templates(config, context, extractor), context.prior)


def find_templates(
    config: USDOptions, context: GuidanceContext, extractor: Callable[[], Extractor]
) -> Templates:
    """From the folder, or from the prior; the same for the same seed of the run.

    They are kept in the run folder, where a resumed run finds them.
    """
    options, prior = config.classifier, context.prior
    making = _next_generator(prior)  # a resumed run draws it, too, in vain
    make: Callable[[], Pictures]
    if options.templates is None:
        check_classes(config, tuple(options.phrases))
        make = partial(_new_pictures, options, context, extractor, making)
    else:
        make = partial(load_pictures, Path(options.templates))
    if context.folder is None:
        found = make()
    else:
        order = options.phrases if options.templates is None else None
        found = kept_pictures(context.folder / "templates", make, order=order)
    pictures = {name: picture.to(prior.device) for name, picture in found.items()}
    return with_mirrored(pictures, options.mirrored)


def _next_generator(prior: AbstractPrior) -> Generator:
    """Of the state that the experiment has seeded."""
    return Generator(prior.device).manual_seed(int(torch.randint(2**62, ())))


def _attention(context: GuidanceContext, pictures: Images) -> Saliency:
    found = context.prior.saliency(pictures, context.prompt.text)
    if found is None:
        raise ConfigError(
            "guidance.classifier.polarity is attention, but this prior has no attention to words. "
            "Set it to border."
        )
    return found


def build_extractor(options: ClassifierOptions, prior: AbstractPrior) -> FeatureExtractor:
    """The encoder that is told, or else the prior's own, or else the paper's."""
    model = options.model or prior.image_encoder or USUAL_ENCODER
    return FeatureExtractor(model, device=prior.device, size=options.size)


def check_classes(config: USDOptions, names: tuple[str, ...]) -> None:
    """What is wrong with the classes is told before the prior makes any picture."""
    check_file_names(names)
    wanted_shares(class_names(names, config.classifier.mirrored), config.wanted, config.only)


def _new_pictures(
    options: ClassifierOptions,
    context: GuidanceContext,
    extractor: Callable[[], Extractor],
    generator: Generator,
) -> Pictures:
    texts = {name: text_of(context.prompt.text, phrase) for name, phrase in options.phrases.items()}
    return choose_templates(
        context.prior, texts, extractor(), candidates=options.candidates, generator=generator
    )


def build_text(config: USDOptions, context: GuidanceContext) -> TextClassifier:
    """Of the prior's own encoder if that reads texts; what the prior cannot read is refused."""
    options, prior = config.classifier, context.prior
    own = prior.image_encoder
    model = options.model or (own if own and reads_texts(Path(own)) else USUAL_CLIP)
    # A slip is told before a model is loaded.
    wanted_shares(tuple(options.phrases), config.wanted, config.only)
    texts = {
        name: phrase if options.whole_phrases else text_of(context.prompt.text, phrase)
        for name, phrase in options.phrases.items()
    }
    if model == own:
        prior.encode_text(list(texts.values()))  # it knows which words its encoder was taught
    return TextClassifier(
        texts,
        model,
        device=prior.device,
        size=options.size,
        temperature=options.text_temperature,
    )


class OwnClassifier:
    """A callable of the user's own, package.module:name, from pictures to probabilities."""

    def __init__(self, name: str, device: torch.device) -> None:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(import_module(module), attribute)
        except Exception as error:  # a module of the user's may fail in any way
            raise ConfigError(
                f"guidance.classifier.kind is '{name}', but it cannot be loaded ({error}). Use "
                "matching, noised, text, exact, or package.module:name of what is installed."
            ) from None
        if isinstance(found, type) or not callable(found) or not getattr(found, "classes", ()):
            raise ConfigError(
                f"guidance.classifier.kind is '{name}', which is not a callable from pictures to "
                "probabilities with the names of its classes in `classes`. Name such an object."
            )
        if isinstance(found, nn.Module):
            found.to(device).eval().requires_grad_(False)
        if isinstance(found.classes, str):
            raise ConfigError(
                f"guidance.classifier.kind is '{name}', whose `classes` are one text. Make them a "
                "list of names."
            )
        self.classes = tuple(found.classes)
        self._name, self._asked = name, found

    def log_probabilities(self, images: Images) -> LogProbabilities:
        """Where a probability is rounded to 0 it has no slope."""
        probabilities: Tensor = self._asked(images)
        self._check(probabilities, images)
        return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()

    def _check(self, given: Tensor, images: Images) -> None:
        wanted = (len(images), len(self.classes))
        if tuple(given.shape) != wanted:
            wrong = f"numbers of shape {list(given.shape)} instead of {list(wanted)}"
        elif not bool(((given >= 0) & (given.sum(1, keepdim=True) - 1).abs().le(1e-2)).all()):
            wrong = "numbers that are no probabilities: at least 0, and 1 in each row together"
        elif images.requires_grad and not given.requires_grad:
            wrong = "probabilities that the pictures' gradient does not reach"
        else:
            return
        raise ConfigError(
            f"guidance.classifier.kind is '{self._name}', which gives {wrong}. It should map "
            "pictures [b 3 h w] in [0, 1] to probabilities [b classes], differentiably."
        )
