"""Each benchmark rewrites its own section of a document, and says on which machine."""

import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def spread(values: Sequence[float], unit: str, digits: int = 3) -> str:
    """`median (least to most)`."""
    numbers = (statistics.median(values), min(values), max(values))
    middle, least, most = (f"{value:.{digits}f}" for value in numbers)
    return f"{middle} {unit} ({least} to {most})"


def machine(*distributions: str, threads: int | None = 1) -> str:
    """Processor, threads where they are the same for all, Python and the named distributions."""
    processor = platform.processor() or "unknown processor"
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    versions = ", ".join(f"{name} {version(name)}" for name in distributions)
    used = {None: "", 1: "one thread, ", 2: "two threads, "}[threads]
    return f"{processor}, {used}Python {platform.python_version()}, {versions}"


def write_section(name: str, text: str, path: Path = DOCUMENT) -> None:
    """Replace the section between this name's markers, or add it at the end; print it too."""
    print(text)
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    document = path.read_text("utf-8")
    section = f"{start}{text.strip()}\n{end}"
    if start in document:
        before, rest = document.split(start)
        document = before + section + rest.split(end)[1]
    else:
        document = document.rstrip() + "\n\n" + section
    path.write_text(document, "utf-8")
