"""`--block` leaves a plugin out, and a name that leaves nothing out is an error."""

import pytest

from fake_distributions import empty_site, entry, hook, offering
from sd_core.cli import main
from sd_core.errors import PluginClash, PluginError
from sd_core.plugins import Plugins, load_plugins

site = pytest.fixture(empty_site)


def listed(**options) -> Plugins:
    return load_plugins(builtin=False, **options)


def refused(*blocked: str) -> str:
    with pytest.raises(PluginError) as caught:
        load_plugins(blocked=blocked)
    assert not isinstance(caught.value, PluginClash)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["my-esd", "My_ESD", "my.esd", "MY--esd", "esd-point", "ESD.Point"]
)
def test_a_plugin_is_blocked_by_distribution_or_entry_point_however_it_is_written(site, name):
    site.install("My.ESD", code="raise SystemExit", point="esd_point")
    plugins = listed(blocked=[name])
    assert plugins.entries == {} and plugins.broken == () and len(plugins.blocked) == 1


def test_the_environment_blocks_too(site, monkeypatch):
    for name in ("a", "b", "c", "d"):
        site.install(name, code=offering(name))
    monkeypatch.setenv("SD_CORE_BLOCK", "a, B,")
    plugins = listed(blocked=["c"])
    assert list(plugins.of_kind("guidance")) == ["d"]
    assert plugins.blocked == ("a", "b", "c")


def test_the_environment_may_name_what_is_not_installed(site, monkeypatch):
    site.install("a", code=offering("a"))
    monkeypatch.setenv("SD_CORE_BLOCK", "absent,a")
    assert listed().entries == {}


# what blocks nothing


def test_a_name_that_nothing_has_gets_those_that_there_are(site):
    site.install("my-esd", code="raise SystemExit", point="esd_point")
    site.install("Pack", code=offering("jsd"))
    assert refused("my-edd") == (
        "no plugin to block is named 'my-edd'. Installed: Pack, esd_point, my-esd. "
        "Did you mean 'my-esd'?"
    )


def test_where_nothing_is_installed_there_is_nothing_to_block(site):
    assert refused("numpy") == "no plugin to block is named 'numpy'. Installed: none."


def test_a_right_name_does_not_hide_a_wrong_one(site):
    site.install("my-esd", code=offering("esd"), point="esd")
    assert refused("my-esd", "sparrow") == (
        "no plugin to block is named 'sparrow'. Installed: esd, my-esd."
    )


def test_the_name_of_an_entry_gets_the_distribution_that_offers_it(site):
    site.install("pack", "2.0", code=offering("jsd", "usd"))
    site.install("broken", code="raise SystemExit")
    assert refused("jsd") == (
        "cannot block 'jsd': it is the guidance of pack 2.0, and only whole plugins are left out. "
        "Use --block pack."
    )


def test_the_name_of_a_clash_gets_both_distributions(site):
    site.install("my-esd", "2.0", code=offering("esd"))
    site.install("sd-guidance-drift", code=offering("esd"))
    assert refused("ESD") == (
        "cannot block 'ESD': it is the guidance of sd-guidance-drift 0.1 and the guidance of "
        "my-esd 2.0, and only whole plugins are left out. "
        "Use --block sd-guidance-drift or --block my-esd."
    )


def test_a_distribution_is_named_once_where_it_offers_two_kinds(site):
    metrics = hook(f"return [{entry('jsd', 'Metric')}]", name="sd_metrics")
    site.install("pack", code=offering("jsd") + metrics)
    assert refused("jsd").endswith(
        "guidance of pack 0.1 and the metric of pack 0.1, and only whole plugins are left out. "
        "Use --block pack."
    )


def test_an_entry_of_the_core_is_built_in(site):
    assert refused("vsd") == (
        "cannot block 'vsd': it is the guidance of sd-core 0.1.0, and only whole plugins are left "
        "out. What sd-core offers is built in and stays."
    )


def test_an_entry_of_the_core_that_a_plugin_offers_too_gets_the_plugin(site):
    site.install("my-pack", code=offering("vsd"))
    assert refused("vsd").endswith("Use --block my-pack.")


@pytest.mark.parametrize("name", ["sd-core", "SD_Core", "sd_core.baselines"])
def test_what_is_built_in_cannot_be_blocked(site, monkeypatch, name):
    error = f"cannot block '{name}': what sd-core offers is built in. Remove it from "
    assert refused(name) == error + "--block."
    monkeypatch.setenv("SD_CORE_BLOCK", f"absent, {name}")
    assert refused() == error + "SD_CORE_BLOCK."


def test_the_command_line_tells_it_in_one_line(capsys):
    assert main(["plugins", "--block", "sd-core"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("score-distill: cannot block 'sd-core': ")
