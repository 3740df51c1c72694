"""`score-distill NAME`, where NAME is a command that a plugin offers."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from sd_core.command import CommandContext
from sd_core.commands.run import experiment_table
from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.experiment import Experiment, options_of
from sd_core.experiment_options import Table, options_table
from sd_core.plugins import Plugins


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """Check the experiment and the command's own options, then let it work."""
    entry = plugins.find("command", parsed.command)
    options = parse_options(options_of(entry), _own_table(parsed.own), where=entry.name)
    experiment = Experiment(experiment_table(parsed), plugins)
    if experiment.options.run.threads:
        torch.set_num_threads(experiment.options.run.threads)
    output = Path(parsed.output) if parsed.output else None
    entry.load_build()(options, CommandContext(experiment, output))
    return 0


def _own_table(assignments: Sequence[str]) -> Table:
    try:
        return options_table(assignments)
    except ConfigError as error:  # which speaks of the flag that has such assignments elsewhere
        told = str(error).replace("--set ", "--with ").replace("faces=5000", "KEY=VALUE")
        raise ConfigError(told) from None
