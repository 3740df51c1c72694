"""What is installed: every plugin's module, and the entries that its hooks give.

A plugin is an entry point of the group "sd_core" that leads to a module with hooks. pluggy's own
loader is not used: it skips a second distribution with the same entry-point name in silence, and
one plugin that cannot be imported stops it.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from types import ModuleType

import pluggy
from packaging.requirements import Requirement

from sd_core import hookspecs
from sd_core.entries import (
    CommandEntry,
    Entry,
    GuidanceEntry,
    MetricEntry,
    PriorEntry,
    RendererEntry,
)
from sd_core.errors import PluginError, nearest

CORE = "sd-core"
GROUP = "sd_core"
BUILTIN_MODULES = ("sd_core.baselines", "sd_core.priors", "sd_core.renderers")

ENTRY_OF_HOOK: dict[str, type[Entry]] = {
    "sd_guidance_methods": GuidanceEntry,
    "sd_renderers": RendererEntry,
    "sd_metrics": MetricEntry,
    "sd_priors": PriorEntry,
    "sd_commands": CommandEntry,
}


@dataclass(frozen=True)
class Source:
    """Who offers an entry. A module that was passed in directly has the version ""."""

    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class Candidate:
    """A plugin that was found, and how to import it."""

    name: str
    source: Source
    load: Callable[[], object]


def candidates(installed: bool, builtin: bool, extra: Iterable[ModuleType]) -> Iterator[Candidate]:
    """Those built in, those installed, and the modules in `extra`."""
    core = metadata.version(CORE)
    for name in BUILTIN_MODULES if builtin else ():
        yield Candidate(name, Source(CORE, core), partial(import_module, name))
    loaded = set()
    for distribution in _distributions() if installed else ():
        source = Source(distribution.name, distribution.version)
        for point in distribution.entry_points.select(group=GROUP):
            load = partial(_load, point, distribution.requires or (), core)
            yield Candidate(point.name, source, load)
            loaded.add(point.value)
    for module in extra:
        if (name := module.__name__) not in loaded:  # an author's plugin may be installed as well
            yield Candidate(name, Source(name, ""), partial(_itself, module))


def _distributions() -> Iterator[metadata.Distribution]:
    """Those with a plugin, each once, as Python would import it; ours first, then by name."""
    names = {
        normalised(each.name)
        for each in metadata.distributions()
        if f"[{GROUP}]" in (each.read_text("entry_points.txt") or "") and each.name
    }
    for name in sorted(names, key=lambda name: (not name.startswith("sd-"), name)):
        with suppress(metadata.PackageNotFoundError):  # what an interrupted uninstall left behind
            yield metadata.distribution(name)


def _load(point: metadata.EntryPoint, requires: Iterable[str], core: str) -> object:
    for need in map(Requirement, requires):
        asked = need.marker is None or need.marker.evaluate({"extra": ""})
        fits = need.specifier.contains(core, prereleases=True)
        if normalised(need.name) == CORE and asked and not fits:
            raise PluginError(f"needs sd-core{need.specifier}, this is {core}.")
    return point.load()


def _itself(module: ModuleType) -> ModuleType:
    return module


def call_hooks(plugin: object, name: str) -> Iterator[Entry]:
    """What a module's hooks give, from a plugin manager of its own; each mistake is an error."""
    manager = pluggy.PluginManager(GROUP)
    manager.register(plugin, name)
    hooks = manager.get_hookcallers(plugin) or []
    if not hooks:
        raise PluginError("has no hook. Mark a function with @hookimpl.")
    for hook in hooks:
        _check_hook(hook)
    manager.add_hookspecs(hookspecs)
    for hook in hooks:
        expected = ENTRY_OF_HOOK[hook.name]
        for result in hook() or [None]:  # pluggy drops a None
            listed = isinstance(result, Iterable)
            for entry in result if listed else [result]:
                if not (listed and isinstance(entry, expected)):
                    raise PluginError(
                        f"hook '{hook.name}' gave {type(entry).__name__}, "
                        f"expected a list of {expected.__name__}."
                    )
                yield entry


def _check_hook(hook: pluggy.HookCaller) -> None:
    if hook.name not in ENTRY_OF_HOOK:
        raise PluginError(f"there is no hook '{hook.name}'.{nearest(hook.name, ENTRY_OF_HOOK)}")
    passed = inspect.signature(getattr(hookspecs, hook.name)).parameters
    for implementation in hook.get_hookimpls():
        for name in implementation.argnames:
            if name not in passed:
                raise PluginError(f"hook '{hook.name}' has no argument '{name}'. Remove it.")


def normalised(name: str) -> str:
    """A distribution's name as packaging compares it: My_Plugin is my-plugin."""
    return re.sub(r"[-_.]+", "-", name).lower()
