"""Metrics and what they judge: rings of views around a scene, pictures, and the numbers.

Views: azimuth k·360°/n, k = 0 .. n - 1, at each elevation; distance and field of view are the
middle (low + high)/2 of the stage's camera ranges. A metric then judges what the prior saw on
average: from the far end, where people's pictures are taken, the object is at its smallest.
"""

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from traceback import extract_tb
from typing import Annotated

import torch
from pydantic import Field

from sd_core.building import checked
from sd_core.camera_sampling import CameraOptions
from sd_core.cameras import CameraBatch, turntable
from sd_core.config import Options, option, parse_options
from sd_core.discovery import Source
from sd_core.entries import MetricEntry
from sd_core.errors import ConfigError, PluginError, ScoreDistillationError
from sd_core.experiment import Choice, options_of
from sd_core.experiment_options import Table, options_table
from sd_core.made_by import LIBRARIES, installed_version
from sd_core.metric import AbstractMetric, MetricContext
from sd_core.plugins import Plugins
from sd_core.renderer import AbstractRenderer
from sd_core.shapes import Images, Latents
from sd_core.show import look

AT_ONCE = 24  # views

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

    def recipe(self) -> Table:
        return {**asdict(self), "elevations_deg": list(self.elevations_deg)}

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
class Batch:
    """Pictures in [0, 1] on the device of the metrics, and their cameras if they are known."""

    images: Images
    cameras: CameraBatch | None


@dataclass(frozen=True, eq=False)
class Views:
    """All pictures of one object, made for `prompt`.

    `recipe` says how they were taken where they are a metric's own; `name` is the table's.
    """

    prompt: str
    recipe: Table
    batches: Callable[[], Iterable[Batch]]
    name: str = ""


@dataclass(frozen=True)
class Measured:
    """A metric's numbers, the standard deviations of those that are means, and its recipe."""

    values: dict[str, float]
    deviations: dict[str, float]
    recipe: Table


@dataclass(frozen=True, eq=False)
class Judge:
    """A metric that is ready, and who offers it."""

    choice: Choice
    source: Source
    metric: AbstractMetric

    @property
    def name(self) -> str:
        return self.choice.entry.name

    def measure(self, views: Views) -> Measured:
        """The metric's numbers for one object alone."""
        self.metric.reset()
        self.take_in(views)
        return self.conclude()

    def take_in(self, views: Views) -> None:
        """All views of one object, or none where one is refused."""
        try:
            with torch.no_grad():
                for batch in views.batches():
                    self._take_in(batch, views.prompt)
                with self._failures_told():
                    self.metric.end_object(views.name)
        except ScoreDistillationError:
            with self._failures_told():
                self.metric.drop_object()
            raise

    def _take_in(self, batch: Batch, prompt: str) -> None:
        if batch.cameras is None and self.metric.needs_cameras:
            raise ConfigError(
                f"metric '{self.name}' must know from where each view was taken, and of these "
                "pictures nobody does. Evaluate a run with a 3-D scene."
            )
        with self._failures_told():
            # A copy: other metrics judge the same pictures.
            self.metric.update(batch.images.clone(), prompt, batch.cameras)

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        """A metric that breaks, or needs more memory, does not cost the others their numbers."""
        try:
            yield
        except ScoreDistillationError:
            raise
        except Exception as error:
            what = " ".join(str(error).split())[:300]
            where = extract_tb(error.__traceback__)[-1]
            raise PluginError(
                f"metric '{self.name}' failed: {type(error).__name__}: {what} "
                f"({Path(where.filename).name}, line {where.lineno})."
            ) from error

    def conclude(self) -> Measured:
        """The numbers for all that was taken in, all of them finite; the metric forgets it."""
        with torch.no_grad(), self._failures_told():
            values = {name: float(value) for name, value in self.metric.compute().items()}
            deviations = {name: float(value) for name, value in self.metric.deviations().items()}
        self.metric.reset()  # it need not hold on to the views
        if not values:
            raise PluginError(f"metric '{self.name}' gave no number. Tell its author.")
        for name, value in [*values.items(), *deviations.items()]:
            if not math.isfinite(value):
                raise PluginError(
                    f"metric '{self.name}' gave {value} for '{name}', which is no measurement. "
                    "Tell its author, or leave it out with --metrics."
                )
        return Measured(values, deviations, self.metric.recipe())

    def entry(self, measured: Sequence[Measured], views: Table, device: torch.device) -> Table:
        """What metrics.json says of it, with versions of its own: it may stay there when other
        metrics are measured again by later ones.

        Of several objects `values` are the means, and `each` has the numbers of every one; so has
        `recipes`, where not all were measured alike.
        """
        versions = {name: found for name in LIBRARIES if (found := installed_version(name))}
        cuda = device.type == "cuda"
        several = [each.values for each in measured]
        deviations = means([each.deviations for each in measured])
        recipes = [each.recipe for each in measured]
        alike = all(each == recipes[0] for each in recipes)
        return {
            "options": self.choice.options.resolved({}),
            "values": means(several),
            **({"each": several} if len(several) > 1 else {}),
            **({"deviations": deviations} if deviations else {}),
            "higher_is_better": self.metric.higher_is_better,
            **({"views": views} if views else {}),
            **({"recipe": recipes[0]} if alike and recipes[0] else {}),
            **({} if alike else {"recipes": recipes}),
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
    """Those named, or those that need no file; options are from METRIC.OPTION=VALUE."""
    installed = [
        name
        for name, entry in plugins.of_kind("metric").items()
        if isinstance(entry, MetricEntry) and entry.by_default
    ]
    if names is None and not installed:
        remarks = [*map(str, plugins.broken), *(f"{each} is blocked." for each in plugins.blocked)]
        message = "no metric is installed. Metrics come from plugins: pip install sd-toybox."
        raise ConfigError(" ".join([message, *remarks]))
    wanted = installed if names is None else list(dict.fromkeys(names))
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


def build_judge(choice: Choice, plugins: Plugins, context: MetricContext) -> Judge:
    """The metric itself, and what it needs."""
    entry = choice.entry
    metric = entry.load_build()(choice.options, context)
    checked(metric, AbstractMetric, entry)  # type: ignore[type-abstract]
    return Judge(choice, plugins.source("metric", entry.name), metric)


def take_views(
    renderer: AbstractRenderer, cameras: CameraBatch, decode: Callable[[Latents], Images]
) -> Iterator[Batch]:
    """The scene's preview from every camera, a few at a time, so that any number fits into memory.

    `decode` makes pictures of a scene of latents. A scene that is a picture looks the same from
    everywhere: it is shown once, without a camera.
    """
    for start in range(0, len(cameras), AT_ONCE):
        some = cameras.select(slice(start, start + AT_ONCE))
        images = look(renderer, some, decode).images
        if images.shape[1] != 3 or not bool(images.isfinite().all()):
            raise ConfigError(
                f"its scene draws {images.shape[1]} channels, or values that are not finite, where "
                "a metric judges finite red, green and blue. Evaluate another run."
            )
        if len(images) != len(some):
            yield Batch(images, None)
            return
        yield Batch(images, some)
