"""How long the command takes before it does anything: `--help`, and `plugins` with 100 plugins."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from _report import machine, spread, write_section

RUNS = 11
PLUGINS = 100


def add_plugin(site: Path, name: str) -> None:
    """A module with one entry, and the metadata of an installed distribution."""
    module = name.replace("-", "_")
    (site / f"{module}.py").write_text(
        "from sd_core import hookimpl\n"
        "from sd_core.entries import GuidanceEntry\n\n\n"
        "@hookimpl\n"
        "def sd_guidance_methods():\n"
        f"    return [GuidanceEntry(name={name!r}, summary='one of many', reference='',\n"
        f"        config='{module}_code:Options', build='{module}_code:Method')]\n"
    )
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sd_core]\n{name} = {module}\n")


def timed(arguments: list[str], site: Path) -> tuple[list[float], str]:
    """Seconds of each run as a whole process, after one that does not count."""
    command = [sys.executable, "-c", "from sd_core.cli import main; raise SystemExit(main())"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    seconds = []
    for _ in range(RUNS + 1):
        began = perf_counter()
        done = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, check=True
        )
        seconds.append(perf_counter() - began)
    return seconds[1:], done.stdout


def loaded_modules(arguments: list[str], site: Path) -> set[str]:
    """Which of the heavy libraries a command imports."""
    code = (
        "import sys\nfrom sd_core.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*sorted({'torch', 'pydantic', 'numpy', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        help_seconds, _ = timed(["--help"], site)
        alone, _ = timed(["plugins"], site)
        for index in range(PLUGINS):
            add_plugin(site, f"sd-guidance-many-{index}")
        crowded, listing = timed(["plugins"], site)
        assert listing.count("one of many") == PLUGINS
        heavy = loaded_modules(["plugins"], site) | loaded_modules(["--help"], site)
    write_section(
        "start-up",
        f"""## Start-up of the command

| command | whole process | goal |
|---|---|---|
| `score-distill --help` | {spread(help_seconds, "s")} | < 0.3 s |
| `score-distill plugins`, nothing but sd-core | {spread(alone, "s")} | |
| `score-distill plugins`, {PLUGINS} plugins more | {spread(crowded, "s")} | < 0.5 s |

Median of {RUNS} runs (least to most). Heavy libraries imported (of torch, pydantic, numpy, rich):
{", ".join(sorted(heavy)) or "none"}. {machine("sd-core", "pluggy")}.
`nox -s benchmarks -- start_up`
""",
    )


if __name__ == "__main__":
    main()
