"""`score-distill run`: an experiment file, or just a prompt with everything else by default."""

import argparse
import os
import shlex
from pathlib import Path

from sd_core.commands.watch import load_prior, watch
from sd_core.errors import ConfigError
from sd_core.experiment import Experiment
from sd_core.experiment_options import Table, choose, override, read_experiment_file
from sd_core.made_by import made_by
from sd_core.plugins import Plugins
from sd_core.prompts import folder_name
from sd_core.run_folder import RunFolder
from sd_core.runner import Start


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """Check everything before the folder is made: a mistake leaves nothing behind."""
    experiment = Experiment(experiment_table(parsed), plugins)
    path = Path(parsed.output) if parsed.output else Path("runs") / default_name(experiment)
    RunFolder.check_free(path)
    prior = load_prior(experiment)
    told, maker = experiment.resolved(), made_by(experiment, prior, parsed.arguments)
    with RunFolder.claimed(path, experiment=told, made_by=maker) as folder:
        return watch(experiment, prior, folder, Start(), quiet=parsed.quiet)


def experiment_table(parsed: argparse.Namespace) -> Table:
    """The file, then the short options, then `--set`, each over the one before."""
    _refuse_bare_prompt(parsed)
    table: Table = read_experiment_file(Path(parsed.experiment)) if parsed.experiment else {}
    if parsed.prompt is not None:
        told = table.get("prompt")
        table["prompt"] = {**(told if isinstance(told, dict) else {}), "text": parsed.prompt}
    if parsed.seed is not None:
        table = override(table, [f"seed={parsed.seed}"])
    for kind in ("guidance", "renderer", "prior"):
        name = getattr(parsed, kind)
        if name is not None:
            table = choose(table, kind, name)
    table = override(table, parsed.set)
    if "prompt" not in table:
        raise ConfigError('there is no prompt. Say what to make: --prompt "a red bear".')
    return table


def _refuse_bare_prompt(parsed: argparse.Namespace) -> None:
    """`score-distill run "a red bear"` names no file, but means a prompt; so with any command."""
    told: str = parsed.experiment or ""
    if parsed.prompt is not None or not told.strip():
        return
    # Not Path.exists, which is an error where a name is too long.
    if told.endswith((".toml", ".json")) or os.path.exists(told):
        return
    text = " ".join(told.split())  # the message stays one line
    raise ConfigError(
        f"there is no experiment file {text!r}. Give a .toml or .json file, or say what to make: "
        f"score-distill {parsed.command} --prompt {shlex.quote(text)}."
    )


def default_name(experiment: Experiment) -> str:
    """The prompt, the methods and the seed, safe as a folder's name."""
    prompt, seed = folder_name(experiment.options.prompt.text), experiment.options.seed
    return f"{prompt}-{experiment.method_names()}-{seed}"
