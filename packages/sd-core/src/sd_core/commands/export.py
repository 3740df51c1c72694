"""`score-distill export`: a run's scene as files that other programs open."""

import argparse
from pathlib import Path

from sd_core.atomic import write_bytes
from sd_core.building import choose_device
from sd_core.config import parse_options
from sd_core.errors import ConfigError, RunFolderError
from sd_core.experiment import Choice, Experiment
from sd_core.experiment_options import options_table
from sd_core.plugins import Plugins
from sd_core.renderer import Exported
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import load_scene


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """Load the scene without its prior, and let it write itself."""
    folder, table = RunFolder.open(Path(parsed.run))
    experiment = Experiment(table, plugins)
    path = _path(parsed, folder)
    # The options are checked before the scene is loaded, which may take a while.
    entry = _renderer(experiment, parsed.stage).innermost().entry
    builder = entry.load_build()
    if parsed.to not in builder.export_kinds:
        kinds = ", ".join(builder.export_kinds) or "none"
        raise ConfigError(
            f"a scene of renderer '{entry.name}' cannot be written as '{parsed.to}'. It can be: "
            f"{kinds}."
        )
    options = parse_options(builder.export_options, options_table(parsed.set), where=parsed.to)
    device = choose_device(parsed.device, told_by="--device")
    scene = load_scene(folder, experiment, device=device, stage=parsed.stage)
    exported = scene.renderer.export(parsed.to, path.stem, options)
    _write(exported, path, overwrite=parsed.overwrite)
    print(f"the scene after {scene.steps_done} steps of stage {scene.stage}")
    for line in exported.notes:
        print(line)
    for file in exported.files:
        print(f"wrote {path.parent / file}")
    return 0


def _path(parsed: argparse.Namespace, folder: RunFolder) -> Path:
    """Where to: a file of the kind asked for."""
    if parsed.output is None:
        return folder.final / f"scene.{parsed.to}"
    path = Path(parsed.output)
    if path.suffix != f".{parsed.to}":
        raise ConfigError(f"--to {parsed.to} writes a .{parsed.to}, but --output is {path}.")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}. Make it first.")
    return path


def _renderer(experiment: Experiment, stage: int | None) -> Choice:
    """Of the scene at the end of a stage, which may have gone on with that of the one before."""
    upto = experiment.stages if stage is None else experiment.stages[: max(stage, 0) + 1]
    return next(each.renderer for each in reversed(upto) if each.renderer)


def _write(exported: Exported, path: Path, *, overwrite: bool) -> None:
    """The main file last: where it is, the others are."""
    for name in exported.files:
        if (path.parent / name).exists() and not overwrite:
            raise RunFolderError(
                f"{path.parent / name} exists already. Choose another with --output, or add "
                "--overwrite."
            )
    for name, content in reversed(list(exported.files.items())):
        write_bytes(path.parent / name, content)
