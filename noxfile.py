"""Everything that is checked or made in this repository: `nox -l` lists it, `nox -s NAME` does it.

Each session sets up what it needs by itself, with uv where it is installed and with pip where not,
and takes every version from constraints.txt.
"""

import keyword
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from time import strftime
from typing import Any

import nox

ROOT = Path(__file__).parent
TEMPLATES = ROOT / "templates"
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
KINDS = sorted(path.parent.name for path in TEMPLATES.glob("*/pyproject.toml"))
DOCUMENTED = ("matplotlib",)  # what the examples and the code in the documentation need besides
# One thread each: two OpenMP threads on contended cores are 60 times slower than one.
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

nox.needs_version = ">=2024.3.2"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests", "lint", "types", "docs"]
nox.options.error_on_missing_interpreters = True


@nox.session
def tests(session: nox.Session) -> None:
    """Test everything, installed editable. What follows `--` goes to pytest."""
    install(session, *editable(), "beartype", "nox", "pytest-xdist")
    shapes = ",".join([*map(module_of, PACKAGES), "beartype.beartype"])
    options = [f"--jaxtyping-packages={shapes}", "--ignore=tests/docs", *workers()]
    session.run("pytest", *options, *session.posargs, env=QUIET)


@nox.session(requires=["wheels"])
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def isolation(session: nox.Session, package: str) -> None:
    """Test one package as users get it: its wheel, and nothing that it does not declare."""
    own = wheels_of(ROOT / "packages" / package)
    install(session, *own, wheel("sd-core") + "[testing]", "pytest-xdist")
    session.run("pytest", f"packages/{package}/tests", *workers(), *session.posargs, env=QUIET)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting. `nox -s lint -- --fix` repairs what can be repaired."""
    install(session, "ruff")
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []))
    session.run("ruff", "format", *([] if fix else ["--check"]))


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of all packages, of the templates and of this file."""
    install(session, *editable(), "mypy", "nox")
    session.run("mypy", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the code in the documentation: python blocks, and `$ score-distill` in console blocks."""
    install(session, *editable(), *DOCUMENTED, "pytest-xdist")
    session.run("pytest", "tests/docs", *workers(), *session.posargs, env=QUIET)


@nox.session
def demo(session: nox.Session) -> None:
    """Text to 3D on a CPU: a red bear, its pictures, a glb, and what the Janus meter says of it.

    What follows `--` goes to `score-distill run`, such as another --prompt, or --guidance.
    """
    install(session, *editable())
    run = f"runs/demo-{strftime('%Y%m%d-%H%M%S')}"
    arguments = ["--prompt", "a red bear", "--output", run, *session.posargs]
    session.run("score-distill", "run", *arguments, env=QUIET)
    session.run("score-distill", "evaluate", run, env=QUIET)
    session.run("score-distill", "export", run, "--to", "glb", env=QUIET)
    print(f"look at {run}/final: contact_sheet.png, turntable.mp4, scene.glb")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Run benchmarks or studies by their names: `-- NAME ...`. All of them would take days."""
    known = sorted(path.stem for path in ROOT.glob("benchmarks/[!_]*.py"))
    if not session.posargs or not set(session.posargs) <= set(known):
        session.error("usage: nox -s benchmarks -- NAME ..., NAME: " + ", ".join(known))
    install(session, *editable(), *DOCUMENTED, "embreex")
    for name in session.posargs:
        session.run("python", f"benchmarks/{name}.py")


@nox.session
def wheels(session: nox.Session) -> None:
    """Build the source distribution and the wheel of every package into dist/."""
    install(session, "build", "hatchling")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for package in PACKAGES:
        build(session, ROOT / "packages" / package, ROOT / "dist")


@nox.session(venv_backend="none")
def new_plugin(session: nox.Session) -> None:
    """Write a plugin that works, to start from: `-- guidance my-method [FOLDER]`."""
    try:
        kind, name, *rest = session.posargs
        (folder,) = rest or [str(ROOT / "packages")]
    except ValueError:
        session.error("usage: nox -s new_plugin -- KIND NAME [FOLDER], KIND: " + ", ".join(KINDS))
    try:
        started_in = Path(session.invoked_from)
        written = write_plugin(kind, name, started_in / folder)
    except ValueError as error:
        session.error(str(error).removesuffix("."))  # nox adds one
    print(f"wrote {written}")
    print(f"try it: {trial(written, started_in)}")


@nox.session(requires=["wheels"])
@nox.parametrize("kind", KINDS, ids=KINDS)
def template(session: nox.Session, kind: str) -> None:
    """Check what new_plugin writes: it builds, passes its contract, and is found."""
    parent = Path(session.create_tmp())
    shutil.rmtree(parent / "plugin", ignore_errors=True)
    written = write_plugin(kind, "brand-new", parent / "plugin")
    install(session, "build", "hatchling")
    build(session, written, parent / "plugin")
    (built,) = (parent / "plugin").glob("*.whl")
    install(session, f"{built}[testing]", wheel("sd-core") + "[testing]")
    session.run("pytest", f"{written}/tests", env=QUIET)
    listed = session.run("score-distill", "plugins", "--strict", silent=True) or ""
    if "brand-new" not in listed:
        session.error(f"score-distill plugins does not list the new {kind}:\n{listed}")
    print(next(line for line in listed.splitlines() if "brand-new" in line))


def install(session: nox.Session, *what: str) -> None:
    """Install at the versions of constraints.txt.

    Without bytecode where uv installs: it takes 8 s for torch, and a first import without it 1 s.
    """
    env = {"PIP_BUILD_CONSTRAINT": "constraints.txt", "UV_BUILD_CONSTRAINT": "constraints.txt"}
    if links := find_links():
        env["UV_FIND_LINKS"] = links
    session.install("-c", "constraints.txt", *what, env=env)


@cache
def find_links() -> str:
    """pip's find-links setting as uv wants it, which does not read it: commas, not blanks."""
    if "UV_FIND_LINKS" in os.environ:
        return os.environ["UV_FIND_LINKS"]
    links = os.environ.get("PIP_FIND_LINKS")
    if links is None:
        ask = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
        links = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
    return ",".join(links.split())


def editable() -> list[str]:
    """Arguments that install all packages from their sources, with all of their extras."""
    arguments = []
    for package in PACKAGES:
        extras = ",".join(project(ROOT / "packages" / package).get("optional-dependencies", {}))
        arguments += ["-e", f"packages/{package}[{extras}]"]
    return arguments


def build(session: nox.Session, package: Path, into: Path) -> None:
    """Build with the hatchling of the session, so that nothing is fetched for each package."""
    session.run("python", "-m", "build", "--no-isolation", "--outdir", f"{into}", f"{package}")


def wheels_of(package: Path) -> list[str]:
    """The built wheel of a package and those of the packages here that it needs."""
    needed = {project(package)["name"]}
    while more := {each for name in needed for each in siblings(name)} - needed:
        needed |= more
    return [wheel(name) for name in sorted(needed)]


def siblings(package: str) -> Iterable[str]:
    """The packages of this repository that one of them declares as dependencies."""
    declared = project(ROOT / "packages" / package).get("dependencies", [])
    return {re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in declared} & set(PACKAGES)


def wheel(package: str) -> str:
    """The wheel in dist/ of a package."""
    (path,) = ROOT.glob(f"dist/{module_of(package)}-*.whl")
    return str(path)


def project(package: Path) -> dict[str, Any]:
    """The [project] table of a package."""
    table: dict[str, Any] = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))
    return dict(table["project"])


def module_of(package: str) -> str:
    """sd-core → sd_core."""
    return package.replace("-", "_")


def workers() -> list[str]:
    """Two pytest processes where there are two cores."""
    return ["-n", "2"] if (os.cpu_count() or 1) > 1 else []


def write_plugin(kind: str, name: str, into: Path) -> Path:
    """Copy templates/KIND, a working plugin named "my-method", under another name."""
    if kind not in KINDS:
        raise ValueError(
            f"no template for the kind '{kind}'. There is: {', '.join(KINDS)}. "
            "For another kind subclass its contract in sd_core.testing.contracts."
        )
    if keyword.iskeyword(name):
        raise ValueError(f"'{name}' is a word of Python, and no module can be called so.")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ValueError(
            f"'{name}' is not kebab-case: expected lower-case letters and digits, first a letter, "
            "joined by single hyphens, such as 'my-method'."
        )
    folder = into / f"sd-{kind}-{name}"
    if folder.exists():
        raise ValueError(f"{folder} exists already and is left alone. Choose another name.")
    for source in sorted((TEMPLATES / kind).rglob("*")):
        if source.suffix in (".py", ".toml", ".md", ".typed"):
            target = folder / renamed(str(source.relative_to(TEMPLATES / kind)), name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(renamed(source.read_text("utf-8"), name), "utf-8")
    return folder


def trial(plugin: Path, started_in: Path) -> str:
    """The command that tests a plugin.

    sd-core comes from here by its path: no index has it, and an index may have a stranger's package
    of that name.
    """
    core, folder = (
        os.path.relpath(path, started_in) for path in (ROOT / "packages/sd-core", plugin)
    )
    if plugin.resolve().parent == ROOT / "packages":
        return f"nox -s tests -- {shlex.quote(folder)}"
    core, folder = shlex.quote(f"{core}[testing]"), shlex.quote(folder)
    return f"pip install -e {core} -e {folder} && pytest {folder}"


def renamed(text: str, name: str) -> str:
    """The text of a template, with "my-method" in its four spellings replaced by `name`."""
    words = name.split("-")
    spellings = {
        "my-method": name,
        "my_method": "_".join(words),
        "MyMethod": "".join(word.capitalize() for word in words),
        "My method": " ".join(words).capitalize(),
    }
    return re.sub("|".join(spellings), lambda found: spellings[found[0]], text)
