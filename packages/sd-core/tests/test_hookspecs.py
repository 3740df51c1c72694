"""The front door: each hook's example works, its contract is said, and to pass it costs little."""

import inspect
import re
import subprocess
import sys
import tomllib

import pytest

from fake_distributions import empty_site, offering
from sd_core import hookspecs
from sd_core.command import CommandContext
from sd_core.commands import describe, list_plugins
from sd_core.guidance import GuidanceContext
from sd_core.metric import MetricContext
from sd_core.plugins import KINDS, load_plugins
from sd_core.prior import PriorContext
from sd_core.renderer import AbstractRenderer, RendererContext

HOOKS = {
    "sd_guidance_methods": "guidance",
    "sd_renderers": "renderer",
    "sd_metrics": "metric",
    "sd_priors": "prior",
    "sd_commands": "command",
}

site = pytest.fixture(empty_site)


@pytest.mark.parametrize("name", HOOKS)
def test_the_example_of_each_hook_is_a_plugin_that_works(site, name):
    text = inspect.getdoc(getattr(hookspecs, name))
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL))
    points = tomllib.loads(blocks["toml"])["project"]["entry-points"]["sd_core"]
    ((point, module),) = points.items()
    (site.folder / f"{module}.py").write_text(blocks["python"])
    site.describe(module.replace("_", "-"), "0.1", points=points)
    plugins = load_plugins(builtin=False, strict=True)
    assert plugins.find(HOOKS[name], point).build.startswith(f"{module}.{point}:")


def test_every_hook_is_documented_here():
    found = {name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "sd_core_spec")}
    assert found == HOOKS.keys()


def test_the_kinds_are_listed_in_one_place():
    assert describe.KINDS is list_plugins.KINDS is KINDS
    assert set(KINDS) == set(HOOKS.values())


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("sd_guidance_methods", GuidanceContext),
        ("sd_renderers", RendererContext),
        ("sd_metrics", MetricContext),
        ("sd_priors", PriorContext),
        ("sd_commands", CommandContext),
    ],
)
def test_each_hook_says_what_build_is_called_with(name, context):
    text = " ".join(inspect.getdoc(getattr(hookspecs, name)).split())
    where = f"{context.__module__}.{context.__name__}"
    assert f"calls `build(options, context)` with a `{where}`" in text


def test_the_hook_of_renderers_says_why_build_is_a_class():
    text = " ".join(inspect.getdoc(hookspecs.sd_renderers).split())
    assert "`build` must be the class itself, no function" in text
    assert "`default_cameras`" in text and hasattr(AbstractRenderer, "default_cameras")


def test_listing_a_hundred_plugins_imports_nothing_heavy(site):
    for number in range(100):
        requires = ("sd-core>=0.1", "torch>=2.6", "numpy")
        site.install(f"sd-{number}", code=offering(f"method-{number}"), requires=requires)
    script = (
        "import sys; from sd_core.plugins import load_plugins; plugins = load_plugins();"
        "assert len(plugins.of_kind('guidance')) >= 100, plugins.broken;"
        "print(*({'torch', 'pydantic', 'numpy', 'rich'} & set(sys.modules)))"
    )
    path = {"PYTHONPATH": ":".join(each for each in sys.path if each)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=path, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""
