"""What tells runs of one method apart: the options in which they differ.

Runs that differ in seed and prompt alone are repetitions, whose mean means something. Runs of ESD
at λ = 0.5 and at λ = 1 are two methods to whoever compares them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sd_core.experiment import Experiment

_SHOWN = 3  # options; more make no name


def told_apart(experiments: Sequence[Experiment]) -> list[str]:
    """Names of their methods, in order: "esd", or "esd, entropy_weight=0.5" where others differ.

    Texts that differ between prompts alone, such as a folder of templates for each, are no setting.
    """
    names = [experiment.method_names() for experiment in experiments]
    prompts = [experiment.options.prompt.text for experiment in experiments]
    options = [_options(experiment) for experiment in experiments]
    told = list(names)
    for name in dict.fromkeys(names):
        own = [index for index, each in enumerate(names) if each == name]
        keys = _differing([options[index] for index in own], [prompts[index] for index in own])
        labels = {index: _label(options[index], keys) for index in own}
        settings = list(dict.fromkeys(labels.values()))
        for index, label in labels.items():
            if len(keys) > _SHOWN:
                told[index] = f"{name}, setting {settings.index(label) + 1}"
            elif keys:
                told[index] = f"{name}, {label}"
    return told


def _options(experiment: Experiment) -> dict[str, Any]:
    table = experiment.resolved()
    names = {"prompt": {**table["prompt"], "text": ""}, "prior": table["prior"]}
    return dict(_leaves({**names, "stages": table["stages"]}, ""))


def _leaves(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(each, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for index, each in enumerate(value):
            yield from _leaves(each, f"{path}.{index}")
    else:
        yield path, value


def _differing(options: Sequence[dict[str, Any]], prompts: Sequence[str]) -> list[str]:
    keys = dict.fromkeys(key for each in options for key in each)
    found = []
    for key in keys:
        values = [each.get(key) for each in options]
        if all(value == values[0] for value in values):
            continue
        alike = {
            (one == other)
            for prompt, one in zip(prompts, values, strict=True)
            for another, other in zip(prompts, values, strict=True)
            if prompt == another
        }
        of_the_prompt = alike == {True} and all(isinstance(value, str | None) for value in values)
        if not of_the_prompt:
            found.append(key)
    return found


def _label(options: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Each option by as much of its path as no other one has."""
    last = [key.rpartition(".")[2] for key in keys]
    shown = [name if last.count(name) == 1 else key for name, key in zip(last, keys, strict=True)]
    return ", ".join(f"{name}={options.get(key)}" for name, key in zip(shown, keys, strict=True))
