"""What made a run: versions, plugins, prior and machine, for `made_by.json`."""

import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch

from sd_core.experiment import Experiment
from sd_core.experiment_options import Table
from sd_core.prior import AbstractPrior
from sd_core.run_folder import fingerprint

# Those after the first four are of the extra [diffusers].
LIBRARIES = (
    "sd-core",
    "torch",
    "numpy",
    "safetensors",
    "diffusers",
    "transformers",
    "peft",
)


def made_by(experiment: Experiment, prior: AbstractPrior, command: list[str]) -> Table:
    """Everything that a reader of the results may ask for, and no personal data."""
    sources = {}
    for choice in experiment.choices():
        source = experiment.plugins.source(choice.entry.kind, choice.entry.name)
        sources[f"{choice.entry.kind} {choice.entry.name}"] = str(source)
    device = prior.device
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "fingerprint": fingerprint(experiment.resolved()),
        "plugins": sources,
        "prior": prior.identity(),
        "versions": {
            "python": platform.python_version(),
            **{name: found for name in LIBRARIES if (found := installed_version(name))},
        },
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        },
    }


def installed_version(distribution: str) -> str | None:
    """None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
