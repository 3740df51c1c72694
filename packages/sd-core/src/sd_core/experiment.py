"""An experiment whose every option is checked: plugins chosen, defaults filled in, nothing built.

`building.py` makes the objects, `runner.py` runs them.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sd_core.camera_sampling import CameraOptions
from sd_core.config import Options, over, parse_options
from sd_core.entries import Entry, PriorEntry
from sd_core.errors import ConfigError, PluginError
from sd_core.experiment_options import ExperimentOptions, OptimiserOptions, StageOptions, Table
from sd_core.plugins import Plugins
from sd_core.stage_defaults import StageDefaults

# The first that is installed. Of renderers: where the prior does not know one that suits it.
DEFAULT_PRIORS = ("toybox", "gaussian-mixture")
DEFAULT_RENDERERS = ("voxel-grid", "affine")
DEFAULT_GUIDANCE = "sds"


@dataclass(frozen=True)
class Choice:
    """A plugin that the experiment chose, with its checked options."""

    entry: Entry
    options: Options
    parts: Mapping[str, "Choice"] = field(default_factory=dict)  # what it is made of

    def table(self) -> Table:
        """As an experiment file would say it, with every default."""
        return {"name": self.entry.name, **self._own()}

    def with_parts(self) -> "list[Choice]":
        """This choice and all that it is made of."""
        return [self, *(each for part in self.parts.values() for each in part.with_parts())]

    def innermost(self) -> "Choice":
        """Where it is made of one other alone, as particles of a scene are: that other, within."""
        if len(self.parts) != 1:
            return self
        (only,) = self.parts.values()
        return only.innermost()

    def _own(self) -> Table:
        return self.options.resolved({part.entry.name: part._own() for part in self.parts.values()})


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


def stage_defaults_of(entry: Entry) -> StageDefaults:
    """What suits a prior, as its author must have written it."""
    found = entry.load_stages() if isinstance(entry, PriorEntry) else None
    if not isinstance(found, StageDefaults):
        raise PluginError(
            f"{entry.kind} '{entry.name}': its stages {getattr(entry, 'stages', None)} is not a "
            "sd_core.stage_defaults.StageDefaults. Tell its author."
        )
    return found


class Experiment:
    """A checked experiment: `prior` and `stages` chosen, `options` the rest."""

    def __init__(self, table: Mapping[str, Any], plugins: Plugins) -> None:
        self.plugins = plugins
        self.options = parse_options(ExperimentOptions, table, where="")
        told = self.options.prior
        named = told if "name" in told else {"name": self._first("prior", DEFAULT_PRIORS), **told}
        self.prior = self.choose("prior", named, "prior")
        self._defaults = stage_defaults_of(self.prior.entry)
        self.stages: list[Stage] = []
        for stage in self.options.stages:
            self.stages.append(self._check_stage(stage, self.stages))

    def resolved(self) -> Table:
        """The experiment with every default filled in; it can be run again as it is."""
        table = self.options.model_dump(mode="json")
        table["prior"] = self.prior.table()
        for written, stage in zip(table["stages"], self.stages, strict=True):
            written |= stage.options.model_dump(mode="json", include={"steps", "optimiser"})
            written["guidance"] = stage.guidance.table()
            written["renderer"] = stage.renderer.table() if stage.renderer else None
            written["cameras"] = stage.cameras.model_dump(mode="json")
        return table

    def method_names(self) -> str:
        """Of all stages, each once, as folders and tables call the experiment: "sds+vsd"."""
        return "+".join(dict.fromkeys(stage.guidance.entry.name for stage in self.stages))

    def choices(self) -> list[Choice]:
        """Every plugin that takes part by name."""
        stages = [choice for s in self.stages for choice in (s.guidance, s.renderer) if choice]
        return [each for choice in (self.prior, *stages) for each in choice.with_parts()]

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
        parts = {}
        for name, told in options.made_of().items():
            place = f"{where}.{options.place_of(name)}"
            if entry.kind == "renderer":
                parts[name] = self._choose_renderer(
                    {"name": name or self._default_renderer(), **told}, place
                )
            else:
                parts[name] = self._choice(self.plugins.find(entry.kind, name), told, place)
        return Choice(entry, options, parts)

    def _check_stage(self, stage: StageOptions, before: list[Stage]) -> Stage:
        where = f"stages.{len(before)}"
        guidance = self._choose_guidance(stage.guidance, f"{where}.guidance")
        last = next((stage.renderer for stage in reversed(before) if stage.renderer), None)
        if stage.renderer is None and last and stage.start_from == "previous":
            renderer, scene, cameras = None, last.innermost(), before[-1].cameras.model_dump()
        else:
            table = self._renderer_table(stage.renderer or {}, last)
            renderer = self._choose_renderer(table, f"{where}.renderer")
            # Of the scene that is drawn, whatever is around it.
            scene = renderer.innermost()
            own = getattr(scene.entry.load_build(), "default_cameras", CameraOptions())
            cameras = over(self._defaults.of(scene.entry.name).cameras, own.model_dump())
        return Stage(
            options=self._completed(stage, scene.entry.name, where),
            guidance=guidance,
            renderer=renderer,
            cameras=parse_options(
                CameraOptions, over(stage.cameras, cameras), where=f"{where}.cameras"
            ),
        )

    def _choose_guidance(self, told: Table, where: str) -> Choice:
        try:
            return self.choose("guidance", {"name": DEFAULT_GUIDANCE, **told}, where)
        except ConfigError as error:
            start = "unknown key '{}' in {}. Known"
            unknown = [key for key in told if str(error).startswith(start.format(key, where))]
            methods = [name for key in unknown for name in self._methods_with(key)]
            if "name" in told or not methods:
                raise
            raise ConfigError(
                f"{error} No method was told, so it is {DEFAULT_GUIDANCE}; '{unknown[0]}' is an "
                f"option of --guidance {' or '.join(methods)}."
            ) from None

    def _methods_with(self, key: str) -> Iterator[str]:
        """Those that have an option of that name; of a broken one nothing is known."""
        for name, entry in self.plugins.of_kind("guidance").items():
            with suppress(PluginError):
                if key in options_of(entry).model_fields:
                    yield name

    def _choose_renderer(self, table: Table, where: str) -> Choice:
        """With the options that the prior knows to suit it, where the table is silent."""
        name = table.get("name")
        known = self._defaults.of(name).renderer if isinstance(name, str) else {}
        return self.choose("renderer", over(table, known), where)

    def _completed(self, stage: StageOptions, renderer: str, where: str) -> StageOptions:
        """The number of steps and the optimiser that suit the prior, where the stage is silent."""
        known = self._defaults.of(renderer)
        steps = stage.steps if "steps" in stage.model_fields_set else known.steps or stage.steps
        told = over(stage.optimiser.model_dump(exclude_unset=True), known.optimiser)
        optimiser = parse_options(OptimiserOptions, told, where=f"{where}.optimiser")
        return stage.model_copy(update={"steps": steps, "optimiser": optimiser})

    def _renderer_table(self, told: Table, last: Choice | None) -> Table:
        """Without a name: the scene before, as beginning from scratch does not change its kind."""
        if "name" in told:
            return told
        return {**(last.table() if last else {"name": self._default_renderer()}), **told}

    def _default_renderer(self) -> str:
        scenes = tuple(self._defaults.scenes)
        try:
            return self._first("renderer", scenes or DEFAULT_RENDERERS)
        except PluginError as error:
            raise PluginError(
                f"{error} Prior '{self.prior.entry.name}' is made for "
                f"{' or '.join(scenes or DEFAULT_RENDERERS)}. The package sd-render brings volumes "
                "and pictures; or choose another with --renderer."
            ) from None

    def _first(self, kind: str, names: tuple[str, ...]) -> str:
        """The first that is installed; where none is, `find` says what is."""
        installed = self.plugins.of_kind(kind)
        default = next((name for name in names if name in installed), None)
        return default or self.plugins.find(kind, names[-1]).name
