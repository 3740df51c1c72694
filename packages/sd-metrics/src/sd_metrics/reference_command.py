"""`score-distill reference`: the prior's own pictures, for distances to them.

FOLDER/recipe.json                 how all of them are made
FOLDER/pictures/PROMPT/00.png      a folder for each prompt, there when it is whole
FOLDER/pictures/PROMPT/made.json   when, by which versions, and the text of each picture
FOLDER/captions.json               the plain prompt of each picture; written last

Told again with the same options it makes the prompts that are not there yet: after a crash, or
because there are more of them now. A prompt's pictures do not depend on the other prompts.
"""

import hashlib
import json
import platform
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch
from torch import Generator

from sd_core.atomic import disk_errors, new_folder, write_text
from sd_core.building import build_prior
from sd_core.captions import CAPTIONS
from sd_core.command import CommandContext
from sd_core.config import Options, option, parse_options, shown
from sd_core.errors import ConfigError
from sd_core.experiment import Experiment
from sd_core.locks import LOCK_FILE, alone_in
from sd_core.made_by import LIBRARIES, installed_version
from sd_core.pictures import save_png
from sd_core.prior import AbstractPrior
from sd_core.prompts import PromptOptions, View, folder_name, view_text
from sd_core.sampling import ddim_sample
from sd_core.shapes import Images
from sd_metrics.prompt_lists import prompts_of
from sd_metrics.reference import RECIPE, read_json

PICTURES, MADE = "pictures", "made.json"
VIEWS: Final[tuple[View, ...]] = ("front", "side", "back")
_AT_ONCE: Final = 8


class ReferenceCommandOptions(Options):
    """How many pictures, of what, and how they are sampled."""

    count: int = option(60, "Pictures of each prompt (RecDreamer: 60).", ge=1)
    views: bool = option(
        True,
        "Say front, side and back in turn, in the words of the experiment's prompt, as in 'a bear, "
        "side view'; else the plain prompt alone.",
    )
    scale: float = option(7.5, "Of classifier-free guidance; 1 is without.", symbol="s", ge=0.0)
    steps: int = option(50, "Of the sampler, DDIM.", ge=1)
    prompts: str | None = option(
        None,
        "File with one prompt on each line, or usd-table-7, in the place of the experiment's.",
        min_length=1,
    )


def make_reference(options: ReferenceCommandOptions, context: CommandContext) -> None:
    """Check everything, then sample and write one prompt after the other."""
    experiment, folder = context.experiment, context.output
    if folder is None:
        raise ConfigError("there is no folder for the reference. Say where: --output FOLDER.")
    prompts = _prompts(experiment, options)
    earlier = _earlier(folder)
    prior = build_prior(experiment)
    _check(prior, prompts, options)
    recipe = _recipe(experiment, options, prior)
    if earlier is not None:
        _check_same(folder, earlier, recipe)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        if (earlier := _earlier(folder)) is None:  # or another process was quicker
            write_text(folder / RECIPE, _text({**recipe, "made_by": _made_by()}))
        else:
            _check_same(folder, earlier, recipe)
        for prompt in prompts:
            _make_prompt(folder, prompt, options=options, prior=prior, seed=experiment.options.seed)
        write_text(folder / CAPTIONS, _text(_captions(folder)))
    told = shlex.quote(f"fid.reference={folder}")
    print(f"go on with: score-distill evaluate RUN --metrics fid --set {told}")


def _prompts(experiment: Experiment, options: ReferenceCommandOptions) -> list[PromptOptions]:
    """Those to make, each with the words and the negative of the experiment's own."""
    own = experiment.options.prompt
    if options.views and own.views == "none":
        raise ConfigError(
            "reference.views is true, but prompt.views is none: no view is said. Add "
            "--with views=false, or tell no prompt.views."
        )
    if options.prompts is None:
        return [own]
    texts = prompts_of(options.prompts)
    told = own.model_dump()
    return [parse_options(PromptOptions, {**told, "text": each}, where="prompt") for each in texts]


@torch.no_grad()
def _check(
    prior: AbstractPrior, prompts: Sequence[PromptOptions], options: ReferenceCommandOptions
) -> None:
    """Whether the prior knows every text, and so many times; before anything is written."""
    if options.steps > len(prior.schedule):
        raise ConfigError(
            f"reference.steps is {options.steps}, but the prior has {len(prior.schedule)} of them. "
            "Set it to that or less."
        )
    for prompt in prompts:
        prior.encode_text([prompt.negative, *dict.fromkeys(_texts(prompt, options))])


def _earlier(folder: Path) -> dict[str, Any] | None:
    """The recipe of what this command has begun here; None for a new or empty folder."""
    with disk_errors(folder):
        if not folder.exists() or (
            folder.is_dir() and all(each.name == LOCK_FILE for each in folder.iterdir())
        ):
            return None
    if (folder / RECIPE).is_file():
        content = read_json(folder / RECIPE)
        if isinstance(content, dict) and content.get("command") == "score-distill reference":
            return content
    raise ConfigError(
        f"{folder} exists and is neither an empty folder nor one that score-distill reference "
        "made. Choose another with --output."
    )


def _recipe(
    experiment: Experiment, options: ReferenceCommandOptions, prior: AbstractPrior
) -> dict[str, Any]:
    """All that the pictures of a prompt depend on."""
    told = experiment.options.prompt
    return {
        "command": "score-distill reference",
        "prior": {"name": experiment.prior.entry.name, **prior.identity()},
        "seed": experiment.options.seed,
        "sampler": "DDIM, eta 0",
        **options.model_dump(include={"count", "scale", "steps"}),
        "negative": told.negative,
        "texts": _texts(told.model_copy(update={"text": "PROMPT"}), options)[: len(VIEWS)],
    }


def _check_same(folder: Path, earlier: dict[str, Any], recipe: dict[str, Any]) -> None:
    for name, told in recipe.items():
        if earlier.get(name) != told:
            raise ConfigError(
                f"the reference in {folder} was begun with {name} {shown(earlier.get(name))}, not "
                f"{shown(told)}. Tell the same, or choose another folder with --output."
            )


def _make_prompt(
    folder: Path,
    prompt: PromptOptions,
    *,
    options: ReferenceCommandOptions,
    prior: AbstractPrior,
    seed: int,
) -> None:
    own = folder / PICTURES / folder_name(prompt.text)
    if own.is_dir():
        print(f"{prompt.text}: is there already", flush=True)
        return
    texts = _texts(prompt, options)
    print(f"{prompt.text}: {len(texts)} pictures", flush=True)
    generator = Generator(prior.device).manual_seed(_seed(seed, prompt.text))
    pictures = _sample(prior, texts, negative=prompt.negative, options=options, generator=generator)
    digits = max(2, len(str(len(texts) - 1)))
    with new_folder(own) as aside:
        for index, picture in enumerate(pictures):
            save_png(aside / f"{index:0{digits}d}.png", picture[None])
        made = {"prompt": prompt.text, "texts": texts, "made_by": _made_by()}
        write_text(aside / MADE, _text(made))


def _texts(prompt: PromptOptions, options: ReferenceCommandOptions) -> list[str]:
    """Of each picture."""
    if not options.views:
        return [prompt.text] * options.count
    return [view_text(prompt, VIEWS[index % len(VIEWS)]) for index in range(options.count)]


@torch.no_grad()
def _sample(
    prior: AbstractPrior,
    texts: Sequence[str],
    *,
    negative: str,
    options: ReferenceCommandOptions,
    generator: Generator,
) -> Images:
    noise = torch.randn((len(texts), *prior.latent_shape), generator=generator, device=prior.device)
    found = []
    for start in range(0, len(texts), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        latents = ddim_sample(
            prior,
            noise[some],
            texts[some],
            scale=options.scale,
            steps=options.steps,
            negative=negative,
        )
        found.append(prior.decode(latents).cpu())
    pictures = torch.cat(found)
    if pictures.shape[1] != 3:
        raise ConfigError(
            f"the prior makes pictures of {pictures.shape[1]} channels, expected red, green and "
            "blue. Choose another with --prior."
        )
    return pictures


def _seed(seed: int, prompt: str) -> int:
    """One of its own for each prompt, whatever the others are."""
    digest = hashlib.sha256(f"{seed}/reference/{prompt}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def _captions(folder: Path) -> dict[str, str]:
    """The plain prompt of every picture that is there."""
    found = {}
    for own in sorted((folder / PICTURES).iterdir()):
        if own.name.startswith("."):  # what a kill left
            continue
        prompt: str = read_json(own / MADE)["prompt"]
        for picture in sorted(own.glob("*.png")):
            found[picture.relative_to(folder).as_posix()] = prompt
    return found


def _made_by() -> dict[str, Any]:
    versions = {name: found for name in LIBRARIES if (found := installed_version(name))}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **versions},
    }


def _text(content: dict[str, Any] | dict[str, str]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
