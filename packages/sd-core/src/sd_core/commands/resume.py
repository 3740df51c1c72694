"""`score-distill resume`: go on with a run from its newest whole checkpoint."""

import argparse
from pathlib import Path

from sd_core.commands.watch import load_prior, watch
from sd_core.experiment import Experiment
from sd_core.experiment_options import Table
from sd_core.made_by import made_by
from sd_core.plugins import Plugins
from sd_core.run_folder import RunFolder
from sd_core.runner import Start, find_start

# Of the versions in made_by.json, those that decide what is computed, beside the plugins' and the
# prior's identity.
DECISIVE = ("sd-core", "torch", "diffusers", "transformers", "peft")


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """A finished run is left as it is."""
    folder, table = RunFolder.open(Path(parsed.folder))
    experiment = Experiment(table, plugins)
    with folder.locked():
        start = find_start(folder, previous=parsed.previous)
        last = len(experiment.stages) - 1
        at_end = (start.stage, start.steps_done) == (last, experiment.options.stages[last].steps)
        if at_end and (folder.final / "contact_sheet.png").is_file():
            print(f"{folder.path} is finished; its pictures are in {folder.final}")
            return 0
        prior = load_prior(experiment)
        record = resumed_record(made_by(experiment, prior, parsed.arguments), start)
        if changes := changed_versions(folder.append_resumed(record), record):
            print(f"not as before: {', '.join(changes)}; the results may differ")
        return watch(experiment, prior, folder, start, quiet=parsed.quiet)


def resumed_record(made: Table, start: Start) -> Table:
    """What made_by.json holds of each resume: when, from where, and on what."""
    return {
        "resumed": made["started"],
        "from": {"stage": start.stage, "steps_done": start.steps_done},
        **{key: made[key] for key in ("versions", "plugins", "prior", "machine")},
    }


def changed_versions(before: Table, now: Table) -> list[str]:
    """What is another now, such as "torch 2.6.0 -> torch 2.13.0"; each change once."""

    def sources(record: Table) -> dict[str, str]:
        versions = record.get("versions", {})
        decisive = {name: f"{name} {versions[name]}" for name in DECISIVE if name in versions}
        prior = {f"prior {key}": f"{key} {told}" for key, told in record.get("prior", {}).items()}
        return {**decisive, **prior, **record.get("plugins", {})}

    old, new = sources(before), sources(now)
    both = ((old[key], new[key]) for key in new if key in old)
    return list(dict.fromkeys(f"{one} -> {other}" for one, other in both if one != other))
