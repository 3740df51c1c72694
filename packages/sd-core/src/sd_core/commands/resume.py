"""`score-distill resume`: go on with a run from its newest whole checkpoint."""

import argparse
from pathlib import Path

from sd_core.commands.watch import load_prior, watch
from sd_core.experiment import Experiment
from sd_core.plugins import Plugins
from sd_core.run_folder import RunFolder
from sd_core.runner import find_start


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """A finished run is left as it is."""
    folder, table = RunFolder.open(Path(parsed.folder))
    experiment = Experiment(table, plugins)
    start = find_start(folder, previous=parsed.previous)
    last = len(experiment.stages) - 1
    at_end = (start.stage, start.steps_done) == (last, experiment.options.stages[last].steps)
    if at_end and (folder.final / "contact_sheet.png").is_file():
        print(f"{folder.path} is finished; its pictures are in {folder.final}")
        return 0
    return watch(experiment, load_prior(experiment), folder, start, quiet=parsed.quiet)
