"""Installed distributions without pip: what importlib.metadata reads, written by hand."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from textwrap import dedent, indent

import pytest


@dataclass(frozen=True)
class Site:
    """A folder on `sys.path` that distributions are written into."""

    folder: Path

    def describe(
        self,
        distribution: str,
        version: str,
        *,
        points: Mapping[str, str] | None = None,
        requires: tuple[str, ...] = (),
    ) -> None:
        """Write the `.dist-info` alone."""
        info = self.folder / f"{_module(distribution)}-{version}.dist-info"
        info.mkdir(parents=True)
        needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
        head = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (info / "METADATA").write_text(head + needs)
        lines = "".join(f"{name} = {value}\n" for name, value in (points or {}).items())
        (info / "entry_points.txt").write_text(f"[sd_core]\n{lines}" if lines else "")
        importlib.invalidate_caches()

    def install(
        self,
        distribution: str,
        version: str = "0.1",
        *,
        code: str,
        point: str = "",
        requires: tuple[str, ...] = (),
    ) -> None:
        """Write a distribution of one module, which is its entry point too."""
        module = _module(distribution)
        self.describe(distribution, version, points={point or module: module}, requires=requires)
        (self.folder / f"{module}.py").write_text(dedent(code))
        importlib.invalidate_caches()


def empty_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A place to install into: make it a fixture. It holds sd-core 0.1.0, and only what is in it
    is installed.
    """
    before, everything = set(sys.modules), metadata.distributions
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("SD_CORE_BLOCK", raising=False)
    monkeypatch.setattr(
        metadata,
        "distributions",
        lambda: (d for d in everything() if str(d.locate_file("")).startswith(str(tmp_path))),
    )
    site = Site(tmp_path)
    site.describe("sd-core", "0.1.0")
    yield site
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def hook(body: str, *, name: str = "sd_guidance_methods", arguments: str = "") -> str:
    """The source of a plugin with one hook."""
    return (
        "from sd_core.hookspecs import hookimpl\n"
        "from sd_core.entries import *\n\n\n"
        f"@hookimpl\ndef {name}({arguments}):\n{indent(dedent(body).strip(), '    ')}\n"
    )


def entry(name: str, kind: str = "Guidance") -> str:
    """The source of an entry."""
    return f"{kind}Entry({name!r}, 'A method', 'A paper', 'a.b:Options', 'a.b:It')"


def offering(*names: str) -> str:
    """The source of a sound plugin."""
    return hook(f"return [{', '.join(entry(name) for name in names)}]")


def _module(distribution: str) -> str:
    return distribution.lower().replace("-", "_").replace(".", "_")
