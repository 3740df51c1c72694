"""What is on offer, who is broken: the way from a name to code.

Each plugin is loaded in its own try, so that what one gets wrong stays its own.
"""

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from sd_core.command_names import COMMAND_MODULES
from sd_core.discovery import (
    CORE,
    ENTRY_OF_HOOK,
    Candidate,
    Source,
    call_hooks,
    candidates,
    normalised,
)
from sd_core.entries import Entry
from sd_core.errors import PluginClash, PluginError, nearest

BLOCK_VARIABLE = "SD_CORE_BLOCK"

KINDS = tuple(sorted(entry.kind for entry in ENTRY_OF_HOOK.values()))


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
        """Entries of one of the KINDS by name, sorted."""
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

    `blocked` names entry points or distributions to leave out; a name that fits none is an error.
    Those in the environment variable SD_CORE_BLOCK are left out too, and may be absent. A broken
    plugin is set aside, or raised where `strict`.
    """
    found = list(candidates(installed, builtin, extra))
    unwanted = _unwanted(found, blocked)
    entries: dict[tuple[str, str], LoadedEntry] = {}
    broken: list[BrokenPlugin] = []
    left_out: dict[str, None] = {}
    for each in found:
        name, source = each.name, each.source
        if blocked_as := _blocked_as(each, unwanted):
            left_out[blocked_as] = None
            continue
        try:
            entries |= _offered(each, entries)
        except (PluginClash, KeyboardInterrupt):
            raise
        except BaseException as error:  # sys.exit() at import must not end the program either
            told = _told(error)
            if strict:
                raise PluginError(f"plugin '{name}' of {source} is broken: {told}") from error
            broken.append(BrokenPlugin(name, source.distribution, source.version, told))
    return Plugins(entries, tuple(broken), tuple(left_out))


def _told(error: BaseException) -> str:
    """An error in one line; what we say ourselves goes without its type."""
    text = " ".join(str(error).split())
    if isinstance(error, PluginError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _offered(
    candidate: Candidate, earlier: Mapping[tuple[str, str], LoadedEntry]
) -> dict[tuple[str, str], LoadedEntry]:
    source = candidate.source
    offered: dict[tuple[str, str], LoadedEntry] = {}
    everything = list(call_hooks(candidate.load(), candidate.name))  # who breaks cannot clash
    for entry in everything:
        key = entry.kind, entry.name
        if entry.kind == "command" and entry.name in COMMAND_MODULES:
            raise PluginError(f"offers command '{entry.name}', which is built in. Rename it.")
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


def _unwanted(found: Sequence[Candidate], blocked: Iterable[str]) -> set[str]:
    """The normalised names to leave out, each of them possible."""
    told = [name.strip() for name in blocked]
    always = [name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(",")]
    names = [("--block", name) for name in told] + [(BLOCK_VARIABLE, name) for name in always]
    built_in = {CORE, *(normalised(each.name) for each in found if _is_built_in(each))}
    for where, name in names:
        if normalised(name) in built_in:
            raise PluginError(
                f"cannot block '{name}': what sd-core offers is built in. Remove it from {where}."
            )
    known = {
        normalised(name): name
        for each in found
        if not _is_built_in(each)
        for name in (each.name, each.source.distribution)
    }
    for name in told:
        if normalised(name) not in known:
            raise PluginError(_not_to_block(name, sorted(known.values()), found))
    return {normalised(name) for _, name in names}


def _is_built_in(candidate: Candidate) -> bool:
    return candidate.source.distribution == CORE


def _not_to_block(name: str, known: Sequence[str], found: Iterable[Candidate]) -> str:
    """Why a name blocks nothing; the name of an entry gets the distribution that offers it."""
    offers = {
        (f"{entry.kind} of {each.source}", each.source.distribution): None
        for each in found
        for entry in _entries_of(each)
        if entry.name == normalised(name)
    }
    if not offers:
        there_is = ", ".join(known) or "none"
        return f"no plugin to block is named '{name}'. Installed: {there_is}.{nearest(name, known)}"
    told = " and the ".join(told for told, _ in offers)
    ways = dict.fromkeys(f"--block {source}" for _, source in offers if source != CORE)
    remedy = f"Use {' or '.join(ways)}" if ways else "What sd-core offers is built in and stays"
    return (
        f"cannot block '{name}': it is the {told}, and only whole plugins are left out. {remedy}."
    )


def _entries_of(candidate: Candidate) -> list[Entry]:
    try:
        return list(call_hooks(candidate.load(), candidate.name))
    except KeyboardInterrupt:
        raise
    except BaseException:  # a broken plugin offers nothing, and another error is on its way
        return []
