"""An experiment whose every option is checked: plugins chosen, defaults filled in, nothing built.

`building.py` makes the objects, `runner.py` runs them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sd_core.camera_sampling import CameraOptions
from sd_core.config import Options, parse_options
from sd_core.entries import Entry
from sd_core.errors import ConfigError, PluginError
from sd_core.experiment_options import ExperimentOptions, StageOptions, Table
from sd_core.plugins import Plugins

DEFAULT_PRIOR = "gaussian-mixture"
DEFAULT_GUIDANCE = "sds"
# The scene of a prior of points; for every other prior the first of the rest that is installed.
RENDERER_OF_PRIOR = {"gaussian-mixture": "affine"}
DEFAULT_RENDERERS = ("voxel-grid", "affine")


@dataclass(frozen=True)
class Choice:
    """A plugin that the experiment chose, with its checked options."""

    entry: Entry
    options: Options
    methods: Mapping[str, "Choice"] = field(default_factory=dict)  # those it is made of

    def table(self) -> Table:
        """As an experiment file would say it, with every default."""
        return {"name": self.entry.name, **self._own()}

    def with_methods(self) -> "list[Choice]":
        """This choice and all that it is made of."""
        return [self, *(each for part in self.methods.values() for each in part.with_methods())]

    def _own(self) -> Table:
        return self.options.resolved({name: part._own() for name, part in self.methods.items()})


@dataclass(frozen=True)
class Stage:
    """A checked stage. `renderer` is None where the scene of the stage before just goes on."""

    options: StageOptions
    guidance: Choice
    renderer: Choice | None
    cameras: CameraOptions


def options_of(entry: Entry) -> type[Options]:
    """The class of an entry's options, as its author must have written it."""
    config = entry.load_config()
    if not (isinstance(config, type) and issubclass(config, Options)):
        raise PluginError(
            f"{entry.kind} '{entry.name}': its config {entry.config} is not a subclass of "
            "sd_core.config.Options. Tell its author."
        )
    return config


class Experiment:
    """A checked experiment: `prior` and `stages` chosen, `options` the rest."""

    def __init__(self, table: Mapping[str, Any], plugins: Plugins) -> None:
        self.plugins = plugins
        self.options = parse_options(ExperimentOptions, table, where="")
        prior = {"name": DEFAULT_PRIOR, **self.options.prior}
        self.prior = self.choose("prior", prior, "prior")
        self.stages: list[Stage] = []
        for stage in self.options.stages:
            self.stages.append(self._check_stage(stage, self.stages))

    def resolved(self) -> Table:
        """The experiment with every default filled in; it can be run again as it is."""
        table = self.options.model_dump(mode="json")
        table["prior"] = self.prior.table()
        for written, stage in zip(table["stages"], self.stages, strict=True):
            written["guidance"] = stage.guidance.table()
            written["renderer"] = stage.renderer.table() if stage.renderer else None
            written["cameras"] = stage.cameras.model_dump(mode="json")
        return table

    def choices(self) -> list[Choice]:
        """Every plugin that takes part by name."""
        stages = [choice for s in self.stages for choice in (s.guidance, s.renderer) if choice]
        return [each for choice in (self.prior, *stages) for each in choice.with_methods()]

    def choose(self, kind: str, table: Table, where: str) -> Choice:
        """Find the plugin that a table names, and check its options."""
        name = table.get("name")
        if not isinstance(name, str):
            names = ", ".join(self.plugins.of_kind(kind))
            raise ConfigError(f"{where} has no name. Add name = one of: {names}.")
        own = {key: value for key, value in table.items() if key != "name"}
        return self._choice(self.plugins.find(kind, name), own, where)

    def _choice(self, entry: Entry, own: Table, where: str) -> Choice:
        options = parse_options(options_of(entry), own, where=where)
        methods = {
            name: self._choice(self.plugins.find("guidance", name), told, f"{where}.options.{name}")
            for name, told in options.methods().items()
        }
        return Choice(entry, options, methods)

    def _check_stage(self, stage: StageOptions, before: list[Stage]) -> Stage:
        where = f"stages.{len(before)}"
        table = {"name": DEFAULT_GUIDANCE, **stage.guidance}
        guidance = self.choose("guidance", table, f"{where}.guidance")
        if stage.renderer is None and before and stage.start_from == "previous":
            renderer, cameras = None, before[-1].cameras
        else:
            told = stage.renderer or {}
            table = told if "name" in told else {**self._usual_renderer(before), **told}
            renderer = self.choose("renderer", table, f"{where}.renderer")
            cameras = getattr(renderer.entry.load_build(), "default_cameras", CameraOptions())
        changed = {**cameras.model_dump(), **stage.cameras}
        cameras = parse_options(CameraOptions, changed, where=f"{where}.cameras")
        return Stage(stage, guidance, renderer, cameras)

    def _usual_renderer(self, before: list[Stage]) -> Table:
        """The last scene of the stages before: beginning from scratch does not change its kind."""
        last = next((stage.renderer for stage in reversed(before) if stage.renderer), None)
        return last.table() if last else {"name": self._default_renderer()}

    def _default_renderer(self) -> str:
        if (its_own := RENDERER_OF_PRIOR.get(self.prior.entry.name)) is not None:
            return its_own
        installed = self.plugins.of_kind("renderer")
        default = next((name for name in DEFAULT_RENDERERS if name in installed), None)
        # Where none of them is installed, `find` says what is.
        return default or self.plugins.find("renderer", DEFAULT_RENDERERS[0]).name
