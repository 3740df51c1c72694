"""`plugins`, `describe` and `schema`."""

import json

import pytest

from mini_schema import mistakes
from sd_core import plugins as plugins_module
from sd_core.commands.describe import TABLES
from sd_core.config import Options
from sd_core.experiment import Experiment
from small_runs import load_with_fakes, plugins

pytestmark = pytest.mark.usefixtures("here")
LINE = "score-distill: "
QUICK = ("--set", "run.threads=1", "--set", "cameras.batch=4", "--set", "steps=6")
RUN = ("run", "--prompt", "two gaussians", *QUICK)


def test_plugins_lists_everything_with_its_source(cli):
    lines = cli("plugins").splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["guidance", "mix"],
        ["guidance", "no-method"],
        ["guidance", "no-options"],
        ["guidance", "sds"],
        ["guidance", "sick"],
        ["guidance", "vsd"],
        ["prior", "gaussian-mixture"],
        ["prior", "image-bank"],
        ["prior", "stable-diffusion"],
        ["renderer", "affine"],
        ["renderer", "particles"],
        ["renderer", "solid"],
        ["renderer", "tiles"],
    ]
    assert lines[1].endswith("(fake_plugin)")


def every_option(kind: type[Options], prefix="") -> list[str]:
    """The dotted names of all options, nested tables included."""
    names = []
    for name, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=True)
        names.append(prefix + name)
        if isinstance(default, Options):
            names += every_option(type(default), f"{prefix}{name}.")
    return names


def described(out) -> list[str]:
    """The options that a description names."""
    heads = [line for line in out.splitlines() if line[:2] == "  " and line[2:3].strip()]
    return [head.split()[0].rstrip(":") for head in heads]


@pytest.mark.parametrize("table", TABLES)
def test_describe_shows_every_option_of_a_table(cli, table):
    out = cli("describe", table)
    assert out.startswith(f"[{table}]\n")
    assert described(out) == every_option(TABLES[table])
    assert "PydanticUndefined" not in out


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("guidance", "sds"),
        ("guidance", "vsd"),
        ("guidance", "mix"),
        ("guidance", "sick"),
        ("renderer", "affine"),
        ("renderer", "particles"),
        ("renderer", "tiles"),
        ("prior", "gaussian-mixture"),
        ("prior", "image-bank"),
    ],
)
def test_describe_shows_every_option_of_a_plugin(cli, kind, name):
    entry = plugins().find(kind, name)
    out = cli("describe", kind, name)
    assert out.startswith(f"{kind} {name} ({plugins().source(kind, name)}): {entry.summary}\n")
    assert entry.reference in out
    assert described(out) == every_option(entry.load_config())
    for field in entry.load_config().model_fields.values():
        assert field.description in out


def test_describe_shows_symbol_default_bounds_and_choices(cli):
    out = cli("describe", "guidance", "vsd")
    assert "\n  scale  (s)  default 7.5, ≥ 0\n      Classifier-free guidance" in out
    assert "\n  timesteps.low  default 0.02, ≥ 0, < 1\n" in out
    assert "  weight  (w(t))  default 'sigma-squared', one of sigma-squared, uniform, " in out
    assert "\n  folder  default none, must be given\n" in cli("describe", "prior", "image-bank")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("guidance",),
            "describe guidance needs a name, one of: mix, no-method, no-options, sds, sick, vsd.",
        ),
        (("metric",), "describe metric needs a name, one of: none installed."),
        (
            ("prior", "image"),
            "no prior named 'image'. Installed: gaussian-mixture, image-bank, stable-diffusion. ",
        ),
        (
            ("camras",),
            "nothing called 'camras' to describe. Known: command, guidance, metric, prior, "
            "renderer, experiment, stage, prompt, cameras, optimiser, run, timesteps, estimator. "
            "Did you mean 'cameras'?",
        ),
        (("run", "x"), "run is one table, without names. Write: describe run."),
        (
            ("guidance", "no-options"),
            "guidance 'no-options': its config fake_plugin:Sick is not a subclass of "
            "sd_core.config.Options. Tell its author.",
        ),
    ],
    ids=str,
)
def test_describe_says_what_there_is(refused, arguments, message):
    assert refused("describe", *arguments).startswith(message)


@pytest.fixture
def schema(cli, monkeypatch):
    monkeypatch.setattr(plugins_module, "load_plugins", plugins_module_without_fakes)
    return json.loads(cli("schema"))


def plugins_module_without_fakes(**options):
    return load_with_fakes(extra=[], **{key: options[key] for key in options if key != "extra"})


def test_the_schema_refers_only_to_what_it_defines(schema):
    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            node = list(node.values())
        if isinstance(node, list):
            for each in node:
                yield from references(each)

    found = set(references(schema))
    assert found
    assert {name.removeprefix("#/$defs/") for name in found} <= set(schema["$defs"])


@pytest.mark.parametrize("method", ["sds", "vsd", "mix"])
def test_the_schema_accepts_what_a_run_resolves_to(schema, method):
    table = {
        "prompt": "x",
        "stages": [{"guidance": {"name": method}}, {"start_from": "scratch"}, {}],
    }
    resolved = Experiment(table, plugins()).resolved()
    assert mistakes(resolved, schema, schema) == []
    assert mistakes({"prompt": "x"}, schema, schema) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"prompt": ""},
        {"prompt": 5},
        {"prompt": "x", "sed": 1},
        {"prompt": "x", "seed": -1},
        {"prompt": "x", "stages": []},
        {"prompt": "x", "stages": [{"steps": 0}]},
        {"prompt": "x", "stages": [{"guidance": {"name": "vdd"}}]},
        {"prompt": "x", "stages": [{"guidance": {"name": "vsd", "scael": 1}}]},
        {"prompt": "x", "stages": [{"guidance": {"name": "vsd", "scale": -1}}]},
        {"prompt": "x", "stages": [{"guidance": {"name": "vsd", "timesteps": {"low": 1}}}]},
        {"prompt": "x", "stages": [{"cameras": {"batch": 0}}]},
        {"prompt": "x", "stages": [{"optimiser": {"betas": [0.9]}}]},
        {"prompt": "x", "prior": {"name": "image-bank"}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_the_options_refuse(schema, wrong):
    assert mistakes(wrong, schema, schema)


# progress
