"""What a command that a plugin adds to `score-distill` is given."""

from dataclasses import dataclass
from pathlib import Path

from sd_core.experiment import Experiment


@dataclass(frozen=True)
class CommandContext:
    """What a command's `build(options, context)` is given.

    experiment  checked, nothing of it is built
    output      where the user wants the files; None where he did not say
    """

    experiment: Experiment
    output: Path | None
