"""`score-distill templates`: what the prior makes of each class's phrase, or what somebody else
made, to choose templates from.

FOLDER/templates/CLASS.png       the choice, for `guidance.classifier.templates`
FOLDER/candidates/CLASS/00.png   every picture
FOLDER/candidates.png            all of them, a row for each class
"""

import shlex
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Generator, Tensor

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
from sd_guidance_usd.candidates import candidate_pictures, most_typical, read_candidates
from sd_guidance_usd.choice_server import ChoiceServer, Pick, Question
from sd_guidance_usd.classifiers import build_extractor, check_classes
from sd_guidance_usd.options import TAKING, USDOptions, told_for_making
from sd_guidance_usd.phrases import text_of
from sd_guidance_usd.separation import TemplatesLookAlike, Wholes, warn_if_alike
from sd_guidance_usd.templates import save_pictures


class TemplatesOptions(Options):
    """What there is to choose from, and whether a person chooses."""

    pictures: str | None = option(
        None,
        "Pictures to choose from, instead of the prior's: a folder with a folder for each class, "
        "such as front, side and back. Sketches, too.",
        min_length=1,
    )
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
    every = usds_of(experiment)
    config = every[0][1]
    given = _given(options, config)
    check_classes(config, tuple(given or config.classifier.phrases))
    folder = _free(context.output)
    with ExitStack() as held:
        # Pictures take a while: a port that is taken and a missing encoder are told before.
        server = held.enter_context(ChoiceServer(options.port)) if options.serve else None
        prior = build_prior(experiment)
        extractor = build_extractor(config.classifier, prior)
        candidates = given or _sample(experiment, config, prior)
        files = [_save_candidates(folder, name, found) for name, found in candidates.items()]
        save_png(folder / "candidates.png", _sheet(list(candidates.values())))
        with torch.no_grad():
            wholes = {
                name: extractor(each.to(prior.device)).whole for name, each in candidates.items()
            }
        _tell_if_alike(wholes, folder / "candidates.png", served=options.serve)
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
    exact = isinstance(prior, ExactPrior)
    print(f"go on with: {next_command(experiment, every, folder / 'templates', exact=exact)}")


def usds_of(experiment: Experiment) -> list[tuple[str, USDOptions]]:
    """Every usd that takes the same templates as the first one: where it is, and its options.

    Where no method is told: that of a usd by default.
    """
    several = len(experiment.stages) > 1
    found = [
        each
        for index, stage in enumerate(experiment.stages)
        for each in _usd_in(stage.guidance, f"stages.{index}.guidance" if several else "guidance")
    ]
    fitting = [each for each in found if each[1].classifier.kind in TAKING]
    if fitting:
        phrases = fitting[0][1].classifier.phrases
        return [each for each in fitting if each[1].classifier.phrases == phrases]
    if found:
        where, config = found[0]
        raise ConfigError(
            f"{where}.classifier.kind is '{config.classifier.kind}', which takes no templates. "
            "Leave it out, or set it to matching or noised."
        )
    if any("guidance" in stage.model_fields_set for stage in experiment.options.stages):
        raise ConfigError(
            f"templates are for the guidance usd, but it is {experiment.method_names()}. "
            "Add --guidance usd."
        )
    return [("guidance", USDOptions())]


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


def _given(options: TemplatesOptions, config: USDOptions) -> dict[str, Images]:
    """The user's own pictures, if there are any."""
    if options.pictures is None:
        return {}
    for name in told_for_making(config.classifier):
        raise ConfigError(
            f"guidance.classifier.{name} is for pictures that the prior makes, but pictures are "
            "given. Remove one."
        )
    return read_candidates(Path(options.pictures).expanduser())


def _sheet(rows: Sequence[Float[Tensor, "_ 3 height width"]]) -> Tensor:
    """A row for each class, on white where one has fewer pictures."""
    columns = max(map(len, rows))
    full = [torch.cat([row, row.new_ones(columns - len(row), *row.shape[1:])]) for row in rows]
    return contact_sheet(torch.cat(full), columns)


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


def _tell_if_alike(wholes: Wholes, sheet: Path, *, served: bool) -> None:
    """The warning of a run, which sends its reader here, as a line that says where to look."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", TemplatesLookAlike)
        try:
            warn_if_alike(wholes)
        except TemplatesLookAlike as alike:
            what, _, _ = str(alike).partition(". ")
            print(f"{what}: see {sheet}{'' if served else ', or add --with serve=true'}")


def next_command(
    experiment: Experiment,
    every: Sequence[tuple[str, USDOptions]],
    templates: Path,
    *,
    exact: bool,
) -> str:
    """The whole command after a prompt alone; else what comes to the experiment, and what goes.

    The classifier of an `exact` prior needs no templates, unless told.
    """
    sets, without = [], []
    for where, config in every:
        sets.append(f"{where}.classifier.templates={templates}")
        if exact and config.classifier.kind != "noised":
            sets.append(f"{where}.classifier.kind=matching")
        without += [f"{where}.classifier.{name}" for name in told_for_making(config.classifier)]
    words = [word for each in sets for word in ("--set", each)]
    has_usd = any(isinstance(each.options, USDOptions) for each in experiment.choices())
    if not has_usd or _is_short(experiment):
        words = ["--guidance", "usd", *words]
    if not _is_short(experiment):
        left = f" without {', '.join(without)}" if without else ""
        return f"the same experiment{left} and {shlex.join(words)}"
    prompt, chosen = experiment.options.prompt.text, experiment.options.prior.get("name")
    words = ["--prompt", prompt, *(["--prior", chosen] if chosen else []), *words]
    return f"score-distill run {shlex.join(words)}"


def _is_short(experiment: Experiment) -> bool:
    """Whether nothing was told but a prompt, the names of a prior and of usd, and the default."""
    told = experiment.options.model_dump(mode="json", exclude_unset=True)
    prior = set(told.pop("prior", {})) <= {"name"}
    stages = told.pop("stages", [{}]) in ([{}], [{"guidance": {"name": "usd"}}])
    return prior and stages and told == {"prompt": {"text": experiment.options.prompt.text}}
