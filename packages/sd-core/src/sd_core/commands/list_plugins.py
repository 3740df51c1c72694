"""`score-distill plugins`: what is installed, what is blocked, what is broken."""

import argparse

from sd_core.plugins import KINDS, Plugins


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """One line for each entry: kind, name, summary, source."""
    for kind in KINDS:
        for name, entry in plugins.of_kind(kind).items():
            print(f"{kind:9} {name:18} {entry.summary} ({plugins.source(kind, name)})")
    for name in plugins.blocked:
        print(f"blocked   {name}")
    for broken in plugins.broken:
        print(f"broken    {broken.name}: {broken}")
    return 0
