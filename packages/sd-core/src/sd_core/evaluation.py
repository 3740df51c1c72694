"""A run's scene judged by metrics: rings of views, the numbers, and `metrics.json`.

Views: azimuth k·360°/n, k = 0 .. n - 1, at each elevation; distance and field of view are the
middle (low + high)/2 of the stage's camera ranges. A metric then judges what the prior saw on
average: from the far end, where people's pictures are taken, the object is at its smallest.
"""

import json
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Annotated

import torch
from pydantic import Field

from sd_core.building import checked
from sd_core.camera_sampling import CameraOptions
from sd_core.cameras import CameraBatch, turntable
from sd_core.config import Options, option, parse_options
from sd_core.discovery import Source
from sd_core.errors import ConfigError, PluginError, RunFolderError
from sd_core.experiment import Choice, options_of
from sd_core.experiment_options import Table, options_table
from sd_core.made_by import LIBRARIES, installed_version
from sd_core.metric import AbstractMetric, MetricContext
from sd_core.plugins import Plugins
from sd_core.renderer import AbstractRenderer
from sd_core.shapes import Images, Latents
from sd_core.show import look

SCHEMA = 1

_Elevation = Annotated[float, Field(ge=-90, le=90)]


class ViewOptions(Options):
    """What a user may say about the views."""

    views: int = option(24, "Views around the object, at each elevation.", ge=1)
    elevation: tuple[_Elevation, ...] = option(
        (10.0,), "Heights above the horizon in degrees, one ring of views each.", min_length=1
    )


@dataclass(frozen=True)
class Rings:
    """Full rings of `count` cameras, in equal steps from the front, all at one distance."""

    count: int
    elevations_deg: tuple[float, ...]
    distance: float
    vertical_fov_deg: float

    @classmethod
    def seen_by(cls, cameras: CameraOptions, options: ViewOptions) -> "Rings":
        """From where a method with these cameras saw the scene on average."""
        return cls(
            count=options.views,
            elevations_deg=options.elevation,
            distance=sum(cameras.distance) / 2,
            vertical_fov_deg=sum(cameras.vertical_fov_deg) / 2,
        )

    def cameras(self) -> CameraBatch:
        """One ring after the other."""
        distance, fov = self.distance, self.vertical_fov_deg
        return CameraBatch.concatenate(
            [
                turntable(self.count, elevation_deg=each, distance=distance, vertical_fov_deg=fov)
                for each in self.elevations_deg
            ]
        )


@dataclass(frozen=True, eq=False)
class Views:
    """Pictures in [0, 1] and their cameras, on the device of the metrics."""

    images: Images
    cameras: CameraBatch
    rings: Rings

    def recipe(self, renderer: Options) -> Table:
        """How they were taken. The background is that of the renderer's options, if it has one."""
        recipe = {**asdict(self.rings), "elevations_deg": list(self.rings.elevations_deg)}
        background = renderer.model_dump(mode="json").get("background")
        return {**recipe, "size": list(self.images.shape[2:]), "background": background}


@dataclass(frozen=True, eq=False)
class Judge:
    """A metric that is ready, and who offers it."""

    choice: Choice
    source: Source
    metric: AbstractMetric

    @property
    def name(self) -> str:
        return self.choice.entry.name

    def measure(self, views: Views, prompt: str) -> dict[str, float]:
        """The metric's numbers for one object, all of them finite."""
        self.metric.reset()
        with torch.no_grad():
            self.metric.update(views.images, prompt, views.cameras)
            values = {name: float(value) for name, value in self.metric.compute().items()}
        self.metric.reset()  # it need not hold on to the views
        if not values:
            raise PluginError(f"metric '{self.name}' gave no number. Tell its author.")
        for name, value in values.items():
            if not math.isfinite(value):
                raise PluginError(
                    f"metric '{self.name}' gave {value} for '{name}', which is no measurement. "
                    "Tell its author, or leave it out with --metrics."
                )
        return values

    def entry(self, scenes: Sequence[Views], prompt: str, device: torch.device) -> Table:
        """What metrics.json says of it, with versions of its own: it may stay there when other
        metrics are measured again by later ones.

        Of several scenes `values` are the means, and `each` has the numbers of every scene.
        """
        measured = [self.measure(views, prompt) for views in scenes]
        versions = {name: found for name in LIBRARIES if (found := installed_version(name))}
        cuda = device.type == "cuda"
        return {
            "options": self.choice.options.resolved({}),
            "values": means(measured),
            **({"each": measured} if len(measured) > 1 else {}),
            "higher_is_better": self.metric.higher_is_better,
            "made_by": {
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "plugin": str(self.source),
                "versions": {"python": platform.python_version(), **versions},
                "device": torch.cuda.get_device_name(device) if cuda else str(device),
            },
        }


def means(measured: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each number, over the scenes for which the metric gave it."""
    names = dict.fromkeys(name for values in measured for name in values)
    return {name: fmean(each[name] for each in measured if name in each) for name in names}


def choose_metrics(
    plugins: Plugins, names: Sequence[str] | None, assignments: Sequence[str]
) -> list[Choice]:
    """Those named, or all that are installed, with options from METRIC.OPTION=VALUE."""
    installed = plugins.of_kind("metric")
    if names is None and not installed:
        remarks = [*map(str, plugins.broken), *(f"{each} is blocked." for each in plugins.blocked)]
        message = "no metric is installed. Metrics come from plugins: pip install sd-toybox."
        raise ConfigError(" ".join([message, *remarks]))
    wanted = list(installed) if names is None else list(dict.fromkeys(names))
    entries = [plugins.find("metric", name) for name in wanted]
    told = _options(plugins, wanted, assignments)
    return [
        Choice(entry, parse_options(options_of(entry), told.get(entry.name, {}), where=entry.name))
        for entry in entries
    ]


def _options(plugins: Plugins, wanted: Sequence[str], assignments: Sequence[str]) -> Table:
    for assignment in assignments:
        path, equals, _ = assignment.partition("=")
        name, *keys = (key.strip() for key in path.split("."))
        if not (equals and keys and name and all(keys)):
            raise ConfigError(
                f"--set {assignment} is not an assignment. Write --set METRIC.OPTION=VALUE; "
                "score-distill describe metric METRIC lists the options."
            )
        if plugins.find("metric", name).name not in wanted:
            raise ConfigError(
                f"--set {assignment}: metric '{name}' is not asked for. Add it to --metrics."
            )
    return options_table(assignments)


def build_judge(choice: Choice, plugins: Plugins, device: torch.device) -> Judge:
    """The metric itself, and what it needs."""
    entry = choice.entry
    metric = entry.load_build()(choice.options, MetricContext(device))
    checked(metric, AbstractMetric, entry)  # type: ignore[type-abstract]
    return Judge(choice, plugins.source("metric", entry.name), metric)


def take_views(
    renderer: AbstractRenderer, rings: Rings, decode: Callable[[Latents], Images]
) -> Views:
    """The scene's preview from every camera; `decode` makes pictures of a scene of latents."""
    cameras = rings.cameras().to(next(renderer.parameters()).device)
    images = look(renderer, cameras, decode).images
    if len(images) != len(cameras):
        plural = "" if len(images) == 1 else "s"
        raise ConfigError(
            f"its scene draws {len(images)} picture{plural} whatever the cameras, not "
            f"{len(cameras)} views, so no metric can judge it. Evaluate a three-dimensional scene."
        )
    if images.shape[1] != 3 or not bool(images.isfinite().all()):
        raise ConfigError(
            f"its scene draws {images.shape[1]} channels, or values that are not finite, where a "
            "metric judges finite red, green and blue. Evaluate another run."
        )
    return Views(images, cameras, rings)


def read_record(path: Path) -> Table | None:
    """What an earlier evaluation wrote; None where there was none."""
    try:
        record: Table = json.loads(path.read_text("utf-8"))
        schema = int(record["schema"])
        if not all(isinstance(record[key], dict) for key in ("views", "scene", "metrics")):
            raise ValueError("views, scene or metrics is no table")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({error}). Is it damaged? Move it away to evaluate again."
        ) from None
    if schema > SCHEMA:
        raise RunFolderError(
            f"{path} has schema {schema}, this sd-core writes {SCHEMA}. Update sd-core, or move it "
            "away."
        )
    return record


def merged(earlier: Table | None, record: Table) -> tuple[Table, list[str]]:
    """The record with the other metrics of an earlier one, and the names of those it drops.

    Only metrics of the same views of the same scene can stand in one file.
    """
    if earlier is None:
        return record, []
    others = {
        name: told for name, told in earlier["metrics"].items() if name not in record["metrics"]
    }
    if any(earlier[key] != record[key] for key in ("views", "scene")):
        return record, sorted(others)
    return {**record, "metrics": dict(sorted({**others, **record["metrics"]}.items()))}, []
