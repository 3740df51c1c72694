"""`score-distill NAME`, where NAME is a command that a plugin offers."""

import argparse
from pathlib import Path

from sd_core.command import CommandContext
from sd_core.commands.run import experiment_table
from sd_core.commands.watch import set_threads
from sd_core.config import parse_options
from sd_core.experiment import Experiment, options_of
from sd_core.experiment_options import options_table
from sd_core.plugins import Plugins


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """Check the experiment and the command's own options, then let it work."""
    entry = plugins.find("command", parsed.command)
    told = options_table(parsed.own, flag="--with", such_as="KEY=VALUE")
    options = parse_options(options_of(entry), told, where=entry.name)
    experiment = Experiment(experiment_table(parsed), plugins)
    set_threads(experiment)
    output = Path(parsed.output) if parsed.output else None
    entry.load_build()(options, CommandContext(experiment, output))
    return 0
