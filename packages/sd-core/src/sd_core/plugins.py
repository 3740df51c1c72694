"""What is on offer, who is broken: the way from a name to code.

Each plugin is loaded in its own try, so that what one gets wrong stays its own.
"""

import os
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType

from sd_core.discovery import ENTRY_OF_HOOK, Candidate, Source, call_hooks, candidates, normalised
from sd_core.entries import Entry
from sd_core.errors import PluginClash, PluginError, nearest

BLOCK_VARIABLE = "SD_CORE_BLOCK"

KINDS = sorted(entry.kind for entry in ENTRY_OF_HOOK.values())


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
        if kind not in KINDS:
            hint = nearest(kind, KINDS)
            raise PluginError(f"no kind '{kind}'. Kinds: {', '.join(KINDS)}.{hint}")
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
    unwanted = {normalised(name.strip()) for name in names}
    entries: dict[tuple[str, str], LoadedEntry] = {}
    broken: list[BrokenPlugin] = []
    left_out: dict[str, None] = {}
    for each in candidates(installed, builtin, extra):
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


def _offered(
    candidate: Candidate, earlier: Mapping[tuple[str, str], LoadedEntry]
) -> dict[tuple[str, str], LoadedEntry]:
    source = candidate.source
    offered: dict[tuple[str, str], LoadedEntry] = {}
    everything = list(call_hooks(candidate.load(), candidate.name))  # who breaks cannot clash
    for entry in everything:
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


def _blocked_as(candidate: Candidate, unwanted: Container[str]) -> str | None:
    name, distribution = candidate.name, candidate.source.distribution
    if normalised(distribution) in unwanted:
        return distribution
    return f"{name} of {distribution}" if normalised(name) in unwanted else None
