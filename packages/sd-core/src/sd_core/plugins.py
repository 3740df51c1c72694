"""What is installed, who offers it, who is broken: the way from a name to code.

A plugin is an entry point of the group "sd_core" that leads to a module with hooks. Each is loaded
in its own try, with a plugin manager of its own: what one plugin gets wrong stays its own. pluggy's
own loader is not used: it skips a second distribution with the same entry-point name in silence,
and one plugin that cannot be imported stops it.
"""

import inspect
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from types import ModuleType

import pluggy
from packaging.requirements import Requirement

from sd_core import hookspecs
from sd_core.entries import Entry, GuidanceEntry, MetricEntry, PriorEntry, RendererEntry
from sd_core.errors import PluginClash, PluginError, nearest

GROUP = "sd_core"
BLOCK_VARIABLE = "SD_CORE_BLOCK"
BUILTIN_MODULES = ("sd_core.baselines", "sd_core.priors", "sd_core.renderers")

_ENTRY_OF_HOOK: dict[str, type[Entry]] = {
    "sd_guidance_methods": GuidanceEntry,
    "sd_renderers": RendererEntry,
    "sd_metrics": MetricEntry,
    "sd_priors": PriorEntry,
}
_KINDS = sorted(entry.kind for entry in _ENTRY_OF_HOOK.values())


@dataclass(frozen=True)
class Source:
    """Who offers an entry. A module that was passed in directly has the version ""."""

    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class LoadedEntry:
    """An entry and who offers it."""

    entry: Entry
    source: Source


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that is installed and could not be loaded."""

    name: str
    distribution: str
    version: str
    error: str

    def __str__(self) -> str:
        source = Source(self.distribution, self.version)
        return f"{source} is installed but broken ({self.error.removesuffix('.')})."


@dataclass(frozen=True)
class Plugins:
    """What is on offer, by kind and name; who is broken; what was found and left out."""

    entries: Mapping[tuple[str, str], LoadedEntry]
    broken: tuple[BrokenPlugin, ...] = ()
    blocked: tuple[str, ...] = ()

    def of_kind(self, kind: str) -> dict[str, Entry]:
        """Entries of one kind ("guidance", "renderer", "metric", "prior") by name, sorted."""
        if kind not in _KINDS:
            hint = nearest(kind, _KINDS)
            raise PluginError(f"no kind '{kind}'. Kinds: {', '.join(_KINDS)}.{hint}")
        return {key[1]: self.entries[key].entry for key in sorted(self.entries) if key[0] == kind}

    def find(self, kind: str, name: str) -> Entry:
        """The entry of that name, or an error that says what there is instead."""
        known = self.of_kind(kind)
        if name in known:
            return known[name]
        message = f"no {kind} named '{name}'. Installed: {', '.join(known) or 'none'}."
        remarks = [*map(str, self.broken), *(f"{each} is blocked." for each in self.blocked)]
        raise PluginError(" ".join([message + nearest(name, known), *remarks]))

    def source(self, kind: str, name: str) -> Source:
        """Which distribution an entry came from, for the run folder."""
        return self.entries[kind, self.find(kind, name).name].source


@dataclass(frozen=True)
class _Candidate:
    name: str
    source: Source
    load: Callable[[], object]


def load_plugins(
    *,
    installed: bool = True,
    builtin: bool = True,
    blocked: Iterable[str] = (),
    extra: Iterable[ModuleType] = (),
    strict: bool = False,
) -> Plugins:
    """Everything on offer: built in, installed, and the modules in `extra`.

    `blocked` names entry points or distributions to leave out, together with those in the
    environment variable SD_CORE_BLOCK. A broken plugin is set aside, or raised where `strict`.
    """
    names = [*blocked, *os.environ.get(BLOCK_VARIABLE, "").split(",")]
    unwanted = {_normalised(name.strip()) for name in names}
    entries: dict[tuple[str, str], LoadedEntry] = {}
    broken: list[BrokenPlugin] = []
    left_out: dict[str, None] = {}
    for each in _candidates(installed, builtin, extra):
        name, source = each.name, each.source
        if blocked_as := _blocked_as(each, unwanted):
            left_out[blocked_as] = None
            continue
        try:
            entries |= _offered(each, entries)
        except PluginClash:
            raise
        except Exception as error:
            told = "" if isinstance(error, PluginError) else f"{type(error).__name__}: "
            told += " ".join(str(error).split())
            if strict:
                raise PluginError(f"plugin '{name}' of {source} is broken: {told}") from error
            broken.append(BrokenPlugin(name, source.distribution, source.version, told))
    return Plugins(entries, tuple(broken), tuple(left_out))


def _candidates(
    installed: bool, builtin: bool, extra: Iterable[ModuleType]
) -> Iterator[_Candidate]:
    core = metadata.version("sd-core")
    for name in BUILTIN_MODULES if builtin else ():
        yield _Candidate(name, Source("sd-core", core), partial(import_module, name))
    loaded = set()
    for distribution in _distributions() if installed else ():
        source = Source(distribution.name, distribution.version)
        for point in distribution.entry_points.select(group=GROUP):
            load = partial(_load, point, distribution.requires or (), core)
            yield _Candidate(point.name, source, load)
            loaded.add(point.value)
    for module in extra:
        if (name := module.__name__) not in loaded:  # an author's plugin may be installed as well
            yield _Candidate(name, Source(name, ""), partial(_itself, module))


def _distributions() -> Iterator[metadata.Distribution]:
    """Those with a plugin, each once, as Python would import it; ours first, then by name."""
    names = {
        _normalised(each.name)
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
        if _normalised(need.name) == "sd-core" and asked and not fits:
            raise PluginError(f"needs sd-core{need.specifier}, this is {core}.")
    return point.load()


def _blocked_as(candidate: _Candidate, unwanted: Container[str]) -> str | None:
    name, distribution = candidate.name, candidate.source.distribution
    if _normalised(distribution) in unwanted:
        return distribution
    return f"{name} of {distribution}" if _normalised(name) in unwanted else None


def _itself(module: ModuleType) -> ModuleType:
    return module


def _offered(
    candidate: _Candidate, earlier: Mapping[tuple[str, str], LoadedEntry]
) -> dict[tuple[str, str], LoadedEntry]:
    source = candidate.source
    offered: dict[tuple[str, str], LoadedEntry] = {}
    for entry in list(_call_hooks(candidate.load(), candidate.name)):
        key = entry.kind, entry.name
        first = offered.get(key) or earlier.get(key)
        if first and first.source == source:
            raise PluginError(f"offers {entry.kind} '{entry.name}' twice. Rename one.")
        if first:
            raise PluginClash(
                f"{entry.kind} '{entry.name}' is offered twice: by {first.source} and by {source}. "
                f"Uninstall one, or block it with --block {source.distribution}."
            )
        offered[key] = LoadedEntry(entry, source)
    return offered


def _call_hooks(plugin: object, name: str) -> Iterator[Entry]:
    manager = pluggy.PluginManager(GROUP)
    manager.register(plugin, name)
    hooks = manager.get_hookcallers(plugin) or []
    if not hooks:
        raise PluginError("has no hook. Mark a function with @hookimpl.")
    for hook in hooks:
        _check_hook(hook)
    manager.add_hookspecs(hookspecs)
    for hook in hooks:
        expected = _ENTRY_OF_HOOK[hook.name]
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
    if hook.name not in _ENTRY_OF_HOOK:
        raise PluginError(f"there is no hook '{hook.name}'.{nearest(hook.name, _ENTRY_OF_HOOK)}")
    passed = inspect.signature(getattr(hookspecs, hook.name)).parameters
    for implementation in hook.get_hookimpls():
        for name in implementation.argnames:
            if name not in passed:
                raise PluginError(f"hook '{hook.name}' has no argument '{name}'. Remove it.")


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
