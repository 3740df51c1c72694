"""`score-distill templates`: what the prior makes of each class's phrase, to choose templates from.

FOLDER/templates/CLASS.png       the choice, for `guidance.classifier.templates`
FOLDER/candidates/CLASS/00.png   every picture
FOLDER/candidates.png            all of them, a row for each class
"""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from pydantic import model_validator
from torch import Generator

from sd_core.atomic import disk_errors
from sd_core.building import build_prior
from sd_core.command import CommandContext
from sd_core.config import Options, option
from sd_core.errors import ConfigError
from sd_core.experiment import Choice, Experiment
from sd_core.pictures import contact_sheet, save_png
from sd_core.prior import AbstractPrior
from sd_core.priors.exact import ExactPrior
from sd_core.shapes import Images
from sd_guidance_usd.choice_server import ChoiceServer, Pick, Question
from sd_guidance_usd.classifiers import build_extractor, check_phrases
from sd_guidance_usd.options import USDOptions
from sd_guidance_usd.phrases import text_of
from sd_guidance_usd.separation import warn_if_alike
from sd_guidance_usd.templates import candidate_pictures, most_typical, save_pictures


class TemplatesOptions(Options):
    """Whether a person chooses."""

    serve: bool = option(
        False, "Then show all of them in a web page on this machine, to choose and to mirror."
    )
    port: int = option(0, "serve: port of that page; 0 for any that is free.", ge=0, le=65535)

    @model_validator(mode="after")
    def _a_port_is_for_a_page(self) -> "TemplatesOptions":
        if self.port and not self.serve:
            raise ValueError("port is told, but no page is served. Add serve=true, or remove it.")
        return self


def make_templates(options: TemplatesOptions, context: CommandContext) -> None:
    """Sample, write, take the most typical of each class, and let the user choose others."""
    experiment = context.experiment
    where, config = usd_of(experiment)
    check_phrases(config)
    folder = _free(context.output)
    with ExitStack() as held:
        # First: a port that is taken is told before the prior makes pictures, which takes a while.
        server = held.enter_context(ChoiceServer(options.port)) if options.serve else None
        prior = build_prior(experiment)
        candidates = _sample(experiment, config, prior)
        files = [_save_candidates(folder, name, found) for name, found in candidates.items()]
        save_png(
            folder / "candidates.png",
            contact_sheet(torch.cat(list(candidates.values())), config.classifier.candidates),
        )
        extractor = build_extractor(config.classifier, prior)
        with torch.no_grad():
            wholes = {name: extractor(each).whole for name, each in candidates.items()}
        warn_if_alike(wholes)
        picks = [Pick(most_typical(whole)) for whole in wholes.values()]

        def keep(picks: Sequence[Pick]) -> None:
            chosen = zip(candidates.items(), picks, strict=True)
            save_pictures(
                folder / "templates", {name: pick.of(found) for (name, found), pick in chosen}
            )

        keep(picks)
        print(f"the most typical of each class is in {folder / 'templates'}")
        if server is not None:
            print(f"choose others at {server.url} and press done there", flush=True)
            server.ask(Question(tuple(candidates), files, picks, keep))
            print(f"your choice is in {folder / 'templates'}")
    print(f"go on with: {_next_command(experiment, where, prior, folder / 'templates')}")


def usd_of(experiment: Experiment) -> tuple[str, USDOptions]:
    """The options of the first usd of the experiment, and where they are; else its defaults."""
    several = len(experiment.stages) > 1
    for index, stage in enumerate(experiment.stages):
        start = f"stages.{index}.guidance" if several else "guidance"
        for where, config in _usd_in(stage.guidance, start):
            kind = config.classifier.kind
            if kind not in (None, "matching"):
                raise ConfigError(
                    f"{where}.classifier.kind is '{kind}', which takes no templates. Leave it out, "
                    "or set it to matching."
                )
            return where, config
    if any("guidance" in stage.model_fields_set for stage in experiment.options.stages):
        raise ConfigError(
            f"templates are for the guidance usd, but it is {experiment.method_names()}. "
            "Add --guidance usd."
        )
    return "guidance", USDOptions()


def _usd_in(choice: Choice, where: str) -> Iterator[tuple[str, USDOptions]]:
    """A usd, or those that a mix is made of."""
    if isinstance(choice.options, USDOptions):
        yield where, choice.options
    for name, part in choice.parts.items():
        yield from _usd_in(part, f"{where}.{choice.options.place_of(name)}")


def _free(folder: Path | None) -> Path:
    if folder is None:
        raise ConfigError("there is no folder for the templates. Say where: --output FOLDER.")
    with disk_errors(folder):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ConfigError(
                f"{folder} exists and is not an empty folder. Choose another with --output."
            )
    return folder


def _sample(experiment: Experiment, config: USDOptions, prior: AbstractPrior) -> dict[str, Images]:
    """The candidates of each class; the same for the same seed of the experiment."""
    generator = Generator(prior.device).manual_seed(experiment.options.seed)
    count, found = config.classifier.candidates, {}
    for name, phrase in config.classifier.phrases.items():
        text = text_of(experiment.options.prompt.text, phrase)
        print(f"{name}: {count} pictures of '{text}'", flush=True)
        found[name] = candidate_pictures(prior, text, count=count, generator=generator)
    return found


def _save_candidates(folder: Path, name: str, pictures: Images) -> list[Path]:
    own = folder / "candidates" / name
    with disk_errors(own):
        own.mkdir(parents=True)
    files = [own / f"{index:02d}.png" for index in range(len(pictures))]
    for file, picture in zip(files, pictures, strict=True):
        save_png(file, picture[None])
    return files


def _next_command(experiment: Experiment, where: str, prior: AbstractPrior, templates: Path) -> str:
    """Of an experiment that is more than a prompt, only what comes to it."""
    told = [f"{where}.classifier.templates={templates}"]
    if isinstance(prior, ExactPrior):  # whose classifier needs none, unless told
        told.append(f"{where}.classifier.kind=matching")
    settings = shlex.join(word for each in told for word in ("--set", each))
    if where != "guidance":
        return f"the same experiment and {settings}"
    prompt, chosen = experiment.options.prompt.text, experiment.options.prior.get("name")
    words = ["--prompt", prompt, *(["--prior", chosen] if chosen else []), "--guidance", "usd"]
    return f"score-distill run {shlex.join(words)} {settings}"
