"""The rules between the packages, read off their sources with `ast`: nothing is imported here.

Each rule is a function that gives complaints. It is asked about every package of the repository,
and about a fake one that breaks it.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CORE = "sd-core"
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 45
# What a module with hooks may import where it is imported: these load neither torch nor pydantic.
LIGHT = {"sd_core", "sd_core.entries", "sd_core.errors", "sd_core.hookspecs"}
# Where what an extra installs may be imported at the top of a file. Elsewhere: in a function.
OF_EXTRA = {"testing": "testing", "diffusers": "testing/tiny_pipelines.py"}
# What another brings along in the one version that it works with, so that asking for both is wrong.
COMES_WITH = {"tokenizers": {"transformers"}}
# What is of no use elsewhere may not be imported there, not even in a function.
NOWHERE_ELSE = {"testing"}


@dataclass(frozen=True)
class Import:
    """`import module`, `from module import ...` or `import_module("module")` in a file.

    Lazy where a function holds it.
    """

    module: str
    lazy: bool
    file: Path
    line: int

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


@dataclass(frozen=True)
class Package:
    """A folder with a pyproject.toml and src/."""

    folder: Path

    @cached_property
    def project(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text("utf-8"))["project"]

    @property
    def name(self) -> str:
        return self.project["name"]

    @property
    def source(self) -> Path:
        return self.folder / "src" / module_of(self.name)

    @cached_property
    def needs(self) -> set[str]:
        return distributions(self.project.get("dependencies", []))

    @cached_property
    def extras(self) -> dict[str, set[str]]:
        extras = self.project.get("optional-dependencies", {})
        return {name: distributions(asked) for name, asked in extras.items()}

    @cached_property
    def imports(self) -> list[Import]:
        return [each for path in sorted(self.source.rglob("*.py")) for each in imports_of(path)]


def imports_of(path: Path) -> Iterator[Import]:
    """All absolute imports of a file, wherever they stand."""
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text("utf-8")), False)]
    while pending:
        node, lazy = pending.pop()
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        pending += [(child, inside) for child in ast.iter_child_nodes(node)]
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, lazy, path, node.lineno)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield Import(str(node.module), lazy, path, node.lineno)
        elif isinstance(node, ast.Call) and (module := _by_name(node)):
            yield Import(module, lazy, path, node.lineno)


def _by_name(call: ast.Call) -> str | None:
    """The module of `import_module("module")`, where it stands there in clear."""
    called = (
        call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    )
    match call.args:
        case [ast.Constant(str(module))] if called == "import_module":
            return module
    return None


def module_of(distribution: str) -> str:
    return distribution.replace("-", "_")


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions(requirements: list[str]) -> set[str]:
    return {normalised(re.split(r"[^\w.-]", each, maxsplit=1)[0]) for each in requirements}


def providers(module: str) -> set[str]:
    """The distributions that a module may come from: PIL comes from pillow."""
    return set(map(normalised, INSTALLED.get(module, [module]))) | COMES_WITH.get(module, set())


INSTALLED = packages_distributions()
PACKAGES = [Package(path.parent) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]
TEMPLATES = [Package(path.parent) for path in sorted(ROOT.glob("templates/*/pyproject.toml"))]
EVERY = [*PACKAGES, *TEMPLATES]


# the rules


def wrong_arrows(package: Package, others: list[Package] = EVERY) -> list[str]:
    """A plugin imports sd_core and no other plugin; sd_core imports no plugin."""
    closed = {module_of(other.name) for other in others} - {module_of(package.name)}
    if package.name != CORE:
        closed -= {module_of(CORE)}
    return [f"{each}, another package" for each in package.imports if each.top in closed]


def undeclared(package: Package) -> list[str]:
    """What is imported is declared; what an extra declares is imported only where it is used."""
    ours = {module_of(package.name), *sys.stdlib_module_names}
    complaints = []
    for each in package.imports:
        sources = providers(each.top)
        if each.top in ours or sources & package.needs:
            continue
        extras = [name for name, asked in package.extras.items() if sources & asked]
        if not extras:
            complaints.append(f"{each}, which is not declared in its pyproject.toml")
        elif not any(_in_its_place(package, each, extra) for extra in extras):
            complaints.append(f"{each}, which only the extra {' or '.join(extras)} installs")
    return complaints


def _in_its_place(package: Package, found: Import, extra: str) -> bool:
    place = OF_EXTRA.get(extra)
    at_home = place is not None and found.file.is_relative_to(package.source / place)
    return at_home or (found.lazy and extra not in NOWHERE_ELSE)


def heavy_fronts(package: Package) -> list[str]:
    """A module with hooks, and the front of a package, import nothing that loads torch."""
    return [
        f"{each}, and is imported whenever plugins are listed"
        for each in package.imports
        if each.file.name == "__init__.py" and not each.lazy
        if each.file.parent == package.source or "@hookimpl" in each.file.read_text("utf-8")
        if each.module not in LIGHT and each.top not in sys.stdlib_module_names
    ]


def long_files(package: Package) -> list[str]:
    """No file of code is longer than 400 lines."""
    return list(_too_long(package.folder))


def _too_long(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        lines = len(path.read_text("utf-8").splitlines())
        if lines > MOST_LINES:
            yield f"{path} has {lines} lines, more than {MOST_LINES}: split it"


def long_functions(package: Package) -> list[str]:
    """No function is longer than 45 lines."""
    return [
        f"{path}:{node.lineno} {node.name} has {lines} lines, more than "
        f"{MOST_LINES_OF_A_FUNCTION}: split it"
        for path in sorted(package.source.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES_OF_A_FUNCTION
    ]


def untyped(package: Package) -> list[str]:
    """A package says that it is typed."""
    return [] if (package.source / "py.typed").is_file() else [f"{package.source} has no py.typed"]


RULES = [wrong_arrows, undeclared, heavy_fronts, long_files, long_functions, untyped]


# the repository keeps them


@pytest.mark.parametrize("package", EVERY, ids=lambda package: package.name)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_package_keeps_the_rules(rule: Callable[[Package], list[str]], package: Package):
    assert not (complaints := rule(package)), "\n".join(complaints)


def test_all_packages_have_one_version():
    assert len({package.project["version"] for package in EVERY}) == 1


@pytest.mark.parametrize("folder", ["tests", "examples", "benchmarks"])
def test_no_other_file_is_too_long(folder: str):
    assert not list(_too_long(ROOT / folder))


# the rules can be broken


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., Package]:
    """Writes a package with one file of code."""

    def write(code: str, file: str = "fake.py", name: str = "sd-guidance-fake") -> Package:
        folder = tmp_path / name
        path = folder / "src" / module_of(name) / file
        path.parent.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(
            f'[project]\nname = "{name}"\ndependencies = ["sd-core>=0.1", "torch"]\n'
            '[project.optional-dependencies]\nboard = ["tensorboard"]\ntesting = ["pytest>=8"]\n'
            'diffusers = ["diffusers>=0.40", "huggingface-hub>=1"]\n'
        )
        path.write_text(code)
        (folder / "src" / module_of(name) / "py.typed").touch()
        return Package(folder)

    return write


@pytest.mark.parametrize(
    "code",
    [
        "import sd_core.noising\nimport math\nfrom torch import nn\nfrom . import other",
        "def log():\n    import tensorboard",
        "def load():\n    hub = import_module('huggingface_hub.errors')\n    import diffusers",
        "import importlib\ndef some(name):\n    importlib.import_module(name)",
    ],
)
def test_a_sound_package_has_no_complaints(fake, code):
    package = fake(code)
    assert [complaint for rule in RULES for complaint in rule(package)] == []


@pytest.mark.parametrize("name", ["sd-guidance-fake", CORE])
@pytest.mark.parametrize("code", ["import sd_metrics", "def f():\n    from sd_metrics.x import y"])
def test_an_arrow_to_a_plugin_is_found(fake, name, code):
    package, plugin = fake(code, name=name), fake("", name="sd-metrics")
    (complaint,) = wrong_arrows(package, [package, plugin])
    assert "imports sd_metrics" in complaint


@pytest.mark.parametrize(
    "code",
    [
        "import numpy",
        "def f():\n    import numpy",
        "if TYPE_CHECKING:\n    from PIL import Image",
        "import tensorboard",  # of an extra, at the top
        "def f():\n    import pytest",  # of the extra testing, elsewhere
        "import_module('numpy')",
        "def f():\n    importlib.import_module('numpy.linalg')",
        "import diffusers",
        "hub = import_module('huggingface_hub')",
    ],
)
def test_an_undeclared_import_is_found(fake, code):
    (complaint,) = undeclared(fake(code))
    assert "which is not declared" in complaint or "which only the extra" in complaint


def test_the_extra_testing_may_be_imported_under_testing_alone(fake):
    assert undeclared(fake("import pytest", "testing/contracts.py")) == []


@pytest.mark.parametrize("code", ["import diffusers", "import_module('huggingface_hub')"])
@pytest.mark.parametrize(
    ("file", "complaints"),
    [
        ("testing/tiny_pipelines.py", 0),
        ("testing/contracts.py", 1),
        ("priors/stable_diffusion.py", 1),
    ],
)
def test_the_extra_diffusers_is_at_the_top_of_the_tiny_pipelines_alone(
    fake, code, file, complaints
):
    assert len(undeclared(fake(code, file))) == complaints


@pytest.mark.parametrize("module", ["torch", "pydantic", "sd_core.guidance"])
def test_a_heavy_front_is_found(fake, module):
    (complaint,) = heavy_fronts(fake(f"from {module} import x", "__init__.py"))
    assert "whenever plugins are listed" in complaint


def test_a_long_file_is_found(fake):
    (complaint,) = long_files(fake("x = 1\n" * (MOST_LINES + 1)))
    assert "401 lines" in complaint


@pytest.mark.parametrize("start", ["def f():", "async def f():", "class A:\n  def f(self):"])
def test_a_long_function_is_found(fake, start):
    package = fake(start + "\n    x = 1" * MOST_LINES_OF_A_FUNCTION)
    (complaint,) = long_functions(package)
    assert complaint.endswith(" f has 46 lines, more than 45: split it")
    path = package.source / "fake.py"
    path.write_text(start + "\n    x = 1" * (MOST_LINES_OF_A_FUNCTION - 1))
    assert long_functions(package) == []


def test_a_package_without_types_is_found(fake):
    package = fake("")
    (package.source / "py.typed").unlink()
    (complaint,) = untyped(package)
    assert complaint.endswith("no py.typed")
