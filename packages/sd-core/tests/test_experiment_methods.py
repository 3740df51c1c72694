"""Methods that are made of others: checked, recorded and built as one."""

from types import ModuleType

import pytest

from sd_core.building import build_prior, build_stage
from sd_core.config import Options
from sd_core.entries import GuidanceEntry
from sd_core.errors import ConfigError, PluginError
from sd_core.experiment import Experiment
from sd_core.hookspecs import hookimpl
from sd_core.plugins import load_plugins
from small_runs import plugins, same, table

MIX = {"name": "mix", "target": "vsd", "source": "vsd", "options": {"vsd": {"scale": 3}}}
MIX_OF = {key: value for key, value in MIX.items() if key != "name"}


def experiment(*stages) -> Experiment:
    return Experiment(table(*stages), plugins())


def test_a_mix_is_recorded_with_what_it_is_made_of():
    chosen = experiment({"guidance": MIX})
    names = [choice.entry.name for choice in chosen.choices()]
    assert names == ["gaussian-mixture", "mix", "sds", "vsd", "affine"]
    recorded = chosen.resolved()["stages"][0]["guidance"]["options"]
    assert list(recorded) == ["sds", "vsd"]
    assert recorded["sds"]["scale"] == 100.0
    assert (recorded["vsd"]["scale"], recorded["vsd"]["estimator"]["updates_per_step"]) == (3.0, 1)


def test_a_recorded_mix_resolves_to_itself():
    inner = {**MIX, "noising": "vsd", "options": {"vsd": {"timesteps": {"low": 0.1}}}}
    for guidance in (MIX, inner, {"name": "mix", "target": "mix", "options": {"mix": MIX_OF}}):
        resolved = experiment({"guidance": guidance}).resolved()
        assert same(Experiment(resolved, plugins()).resolved(), resolved)


def test_only_what_takes_effect_is_recorded_of_a_mix():
    recorded = experiment({"guidance": MIX}).resolved()["stages"][0]["guidance"]["options"]
    assert "timesteps" in recorded["sds"]  # the noising
    assert "timesteps" not in recorded["vsd"]
    assert not any("weight" in own for own in recorded.values())


def test_what_is_built_of_a_mix_is_what_was_checked():
    chosen = experiment({"guidance": {"name": "mix", "target": "mix", "options": {"mix": MIX_OF}}})
    built = build_stage(chosen, 0, build_prior(chosen), None).guidance
    inner = built.methods["mix"].methods["vsd"]
    (choice,) = (each for each in chosen.choices() if each.entry.name == "vsd")
    assert inner.config is choice.options
    assert inner.name == "vsd"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"vsd": {"scael": 1}},
            "unknown key 'scael' in stages.1.guidance.options.vsd. Known keys: ",
        ),
        ({"vsd": {"name": "sds"}}, "unknown key 'name' in stages.1.guidance.options.vsd. Known "),
        (
            {"vsd": {"scale": -1}},
            "stages.1.guidance.options.vsd.scale is -1, but it should be greater than or equal to ",
        ),
        (
            {"mix": {"source": "vsd", "options": {"vsd": {"scale": -1}}}},
            "stages.1.guidance.options.mix.options.vsd.scale is -1, but it should be ",
        ),
        ({"mix": {"target": "vdd"}}, "no guidance named 'vdd'. Installed: "),
        (
            {"sds": {}},
            "stages.1.guidance: there are options for 'sds', but no part comes from it. "
            "Name it as noising, target or source, or remove options.sds.",
        ),
        (
            {"vsd": {"weight": "uniform"}},
            "stages.1.guidance: options.vsd.weight is 'uniform', but a mix weighs with its own "
            "weight. Remove it, or set that one.",
        ),
        (
            {"mix": {"weight": "uniform"}},
            "stages.1.guidance: options.mix.weight is 'uniform', but a mix weighs ",
        ),
        (
            {"mix": {}, "vsd": {"timesteps": {"low": 0.1}}},
            "stages.1.guidance: options.vsd.timesteps is {'low': 0.1}, but t comes from the "
            "noising, 'mix'. Remove it, or set options.mix.timesteps.",
        ),
    ],
    ids=str,
)
def test_a_mistake_in_a_part_shows_before_anything_is_loaded(options, message):
    mix = {"name": "mix", "noising": "mix", "target": "vsd", "source": "vsd", "options": options}
    with pytest.raises((ConfigError, PluginError)) as caught:
        experiment({}, {"guidance": mix})
    assert str(caught.value).startswith(message)


class FinderOptions(Options):
    """Declares nothing."""


def find_sds(config, context):
    return context.find("sds", {"scale": 3.0})


def test_a_method_may_only_find_what_its_options_declare():
    entry = GuidanceEntry(
        "finder",
        "Finds",
        "",
        "test_experiment_methods:FinderOptions",
        "test_experiment_methods:find_sds",
    )
    module = ModuleType("finder")
    module.sd_guidance_methods = hookimpl(lambda: [entry], specname="sd_guidance_methods")
    chosen = Experiment(
        table({"guidance": "finder"}), load_plugins(installed=False, extra=[module])
    )
    with pytest.raises(PluginError) as caught:
        build_stage(chosen, 0, build_prior(chosen), None)
    assert str(caught.value) == (
        "guidance 'finder' asks for 'sds' with options {'scale': 3.0}, which made_of() of "
        "test_experiment_methods:FinderOptions does not declare. Tell its author."
    )
