"""Every installed plugin is found or named with its fault; nothing is overridden in silence."""

import sys
from types import ModuleType

import pytest

from fake_distributions import Site, empty_site, entry, hook, offering
from sd_core.discovery import Source
from sd_core.errors import PluginClash, PluginError
from sd_core.plugins import BrokenPlugin, Plugins, load_plugins

GUIDANCE_HOOK = "hook 'sd_guidance_methods'"
A_LIST = "expected a list of GuidanceEntry."


site = pytest.fixture(empty_site)


def listed(**options) -> Plugins:
    return load_plugins(builtin=False, **options)


def only_error(**options) -> str:
    (broken,) = listed(**options).broken
    return broken.error


# what is found


def test_an_installed_plugin_is_found_with_its_source(site):
    site.install("sd-guidance-drift", "0.3", code=offering("esd"))
    plugins = listed()
    assert plugins.find("guidance", "esd").config == "a.b:Options"
    assert plugins.source("guidance", "esd") == Source("sd-guidance-drift", "0.3")
    assert plugins.broken == ()


def test_entries_of_a_kind_are_sorted_by_name(site):
    site.install("sd-zoo", code=offering("usd", "csd", "jsd"))
    assert list(listed().of_kind("guidance")) == ["csd", "jsd", "usd"]


def test_kinds_are_apart(site):
    site.install("a", code=offering("same"))
    site.install("b", code=hook(f"return [{entry('same', 'Metric')}]", name="sd_metrics"))
    plugins = listed()
    assert plugins.source("guidance", "same").distribution == "a"
    assert plugins.source("metric", "same").distribution == "b"
    assert plugins.of_kind("renderer") == {}


def test_two_distributions_may_use_the_same_entry_point_name(site):
    site.install("a", code=offering("one"), point="plugin")
    site.install("b", code=offering("two"), point="plugin")
    assert list(listed().of_kind("guidance")) == ["one", "two"]


def test_one_distribution_may_have_several_entry_points(site):
    site.install("a", code=offering("one"))
    (site.folder / "second.py").write_text(offering("two"))
    site.describe("b", "0.1", points={"one": "a", "two": "second"})
    (site.folder / "a-0.1.dist-info" / "entry_points.txt").write_text("")
    assert list(listed().of_kind("guidance")) == ["one", "two"]


def test_a_shadowed_copy_counts_once_as_python_would_import_it(site, monkeypatch):
    later = Site(site.folder / "later")
    site.install("my-esd", "2.0", code=offering("esd"))
    later.install("My_ESD", "1.0", code=offering("esd"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(later.folder)])
    assert str(listed().source("guidance", "esd")) == "my-esd 2.0"


def test_a_newer_copy_without_entry_points_hides_the_older_one(site, monkeypatch):
    later = Site(site.folder / "later")
    site.describe("my-esd", "2.0")
    later.install("my-esd", "1.0", code=offering("esd"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(later.folder)])
    assert listed().entries == {}


def test_what_an_interrupted_uninstall_left_behind_is_not_installed(site):
    site.install("my-esd", code=offering("esd"))
    (site.folder / "my_esd-0.1.dist-info").rename(site.folder / "~y_esd-0.1.dist-info")
    assert listed() == Plugins({})


def test_installed_plugins_can_be_left_alone(site):
    site.install("my-esd", code=offering("esd"))
    assert listed(installed=False) == Plugins({})


def test_a_module_can_be_passed_in_directly(site):
    module = ModuleType("notebook")
    exec(offering("esd"), module.__dict__)
    assert str(listed(extra=[module]).source("guidance", "esd")) == "notebook"


def test_a_module_passed_in_that_is_installed_too_counts_once(site):
    site.install("my-esd", code=offering("esd"))
    module = __import__("my_esd")
    assert str(listed(extra=[module]).source("guidance", "esd")) == "my-esd 0.1"


def test_built_in_modules_come_through_the_same_hooks(site, monkeypatch):
    (site.folder / "pretend.py").write_text(offering("esd"))
    monkeypatch.setattr("sd_core.discovery.BUILTIN_MODULES", ("pretend",))
    assert str(load_plugins().source("guidance", "esd")) == "sd-core 0.1.0"


def test_sds_and_vsd_are_built_in(site):
    assert {"sds", "vsd"} <= load_plugins(installed=False).of_kind("guidance").keys()


def test_a_hook_may_be_a_generator(site):
    site.install("a", code=hook(f"yield {entry('esd')}"))
    assert list(listed().of_kind("guidance")) == ["esd"]


def test_a_hook_may_offer_nothing(site):
    site.install("a", code=hook("return []"))
    assert listed() == Plugins({})


# who is broken


def test_a_broken_plugin_is_named_and_the_others_work(site):
    site.install("sd-guidance-lost", "0.2", code="import nowhere_to_be_found", point="usd")
    site.install("sd-guidance-drift", code=offering("esd"))
    plugins = listed()
    assert list(plugins.of_kind("guidance")) == ["esd"]
    error = "ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    assert plugins.broken == (BrokenPlugin("usd", "sd-guidance-lost", "0.2", error),)


@pytest.mark.parametrize(
    "code, error",
    [
        ("raise ImportError('libcuda')", "ImportError: libcuda"),
        ("def broken(:", "SyntaxError: invalid syntax (my_esd.py, line 1)"),
        ("raise ValueError('two\\n   lines')", "ValueError: two lines"),
        ("raise AssertionError", "AssertionError"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("raise SystemExit", "SystemExit"),
        ("import pytest\npytest.skip('no GPU', allow_module_level=True)", "Skipped: no GPU"),
        (hook("raise GeneratorExit('odd')"), "GeneratorExit: odd"),
        (hook("return 1 / 0"), "ZeroDivisionError: division by zero"),
        (hook("return None"), f"{GUIDANCE_HOOK} gave NoneType, {A_LIST}"),
        (hook("return 7"), f"{GUIDANCE_HOOK} gave int, {A_LIST}"),
        (hook("return 'esd'"), f"{GUIDANCE_HOOK} gave str, {A_LIST}"),
        (
            hook(f"return {entry('esd')}"),
            f"{GUIDANCE_HOOK} gave GuidanceEntry, {A_LIST}",
        ),
        (
            hook(f"return [{entry('esd')}]", name="sd_renderers"),
            "hook 'sd_renderers' gave GuidanceEntry, expected a list of RendererEntry.",
        ),
        (hook(f"yield {entry('esd')}\nraise OSError('disk')"), "OSError: disk"),
        (offering("esd", "esd"), "offers guidance 'esd' twice. Rename one."),
        (
            hook("return []", name="sd_guidance_method"),
            "there is no hook 'sd_guidance_method'. Did you mean 'sd_guidance_methods'?",
        ),
        (
            hook("return []", arguments="config"),
            "hook 'sd_guidance_methods' has no argument 'config'. Remove it.",
        ),
        ("def sd_renderers(): return []", "has no hook. Mark a function with @hookimpl."),
        (
            offering("My_ESD"),
            "guidance name 'My_ESD' is malformed: expected lower-case letters and digits joined by "
            "single hyphens. Name it 'my-esd'.",
        ),
    ],
)
def test_a_broken_plugin_is_told_in_one_line(site, code, error):
    site.install("my-esd", code=code)
    site.install("sound", code=offering("sound"))
    assert list(listed().of_kind("guidance")) == ["sound"]
    assert only_error() == error


def test_a_plugin_gives_all_of_its_entries_or_none(site):
    site.install("my-esd", code=hook(f"yield {entry('esd')}\nraise OSError"))
    assert listed().entries == {}


def test_an_entry_point_that_leads_nowhere_is_broken(site):
    site.describe("my-esd", "0.1", points={"esd": "fake_distributions:missing"})
    expected = "AttributeError: module 'fake_distributions' has no attribute 'missing'"
    assert only_error() == expected


def test_two_entry_points_of_one_distribution_may_not_offer_the_same(site):
    site.install("my-esd", code=offering("esd"))
    site.describe("both", "0.1", points={"a": "my_esd", "b": "my_esd"})
    plugins = listed(blocked=["my-esd"])
    assert plugins.broken == (
        BrokenPlugin("b", "both", "0.1", "offers guidance 'esd' twice. Rename one."),
    )


def test_a_plugin_for_a_newer_core_is_not_even_imported(site):
    site.install("a", code="raise SystemExit", requires=("numpy", "sd_core[diffusers]>=9"))
    assert only_error() == "needs sd-core>=9, this is 0.1.0."


@pytest.mark.parametrize(
    "need", ["sd-core", "sd-core>=0.1", "sd-core>=9; extra == 'future'", "numpy>=9999"]
)
def test_a_need_that_is_met_or_not_about_the_core_is_no_obstacle(site, need):
    site.install("a", code=offering("esd"), requires=(need,))
    assert listed().broken == ()


def test_a_requirement_that_cannot_be_read_breaks_its_plugin_only(site):
    site.install("a", code=offering("esd"), requires=("sd-core >< 1",))
    site.install("b", code=offering("jsd"))
    assert list(listed().of_kind("guidance")) == ["jsd"]
    assert only_error().startswith("InvalidRequirement: ")


def test_strict_raises_what_else_is_set_aside(site):
    site.install("sd-guidance-lost", code="raise ImportError('libcuda')", point="usd")
    with pytest.raises(PluginError) as caught:
        listed(strict=True)
    assert str(caught.value) == (
        "plugin 'usd' of sd-guidance-lost 0.1 is broken: ImportError: libcuda"
    )
    assert isinstance(caught.value.__cause__, ImportError)


def test_strict_raises_where_a_plugin_exits(site):
    site.install("my-esd", code="raise SystemExit(0)")
    with pytest.raises(PluginError) as caught:
        listed(strict=True)
    assert str(caught.value) == "plugin 'my_esd' of my-esd 0.1 is broken: SystemExit: 0"


def test_control_c_while_a_plugin_is_imported_stops_the_program(site):
    site.install("my-esd", code="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        listed()


def test_a_plugin_that_wraps_a_hook_does_not_touch_the_others(site):
    code = hook("yield\nreturn []").replace("@hookimpl", "@hookimpl(wrapper=True)")
    site.install("a-thief", code=code)
    site.install("my-esd", code=offering("esd"))
    assert list(listed().of_kind("guidance")) == ["esd"]


# who clashes


def test_a_clash_names_both_sources_and_what_to_do(site):
    site.install("my-esd", "2.0", code=offering("esd"))
    site.install("sd-guidance-drift", "0.1", code=offering("esd"))
    with pytest.raises(PluginClash) as caught:
        listed()
    assert str(caught.value) == (
        "guidance 'esd' is offered twice: by sd-guidance-drift 0.1 and by my-esd 2.0. "
        "Uninstall one, or block it with --block my-esd."
    )


def test_a_broken_plugin_clashes_with_nobody(site):
    site.install("my-esd", code=hook(f"yield {entry('esd')}\nraise OSError('disk')"))
    site.install("sd-guidance-drift", code=offering("esd"))
    assert listed().source("guidance", "esd").distribution == "sd-guidance-drift"
    assert only_error() == "OSError: disk"


def test_what_is_built_in_is_not_replaced_in_silence(site):
    site.install("my-sds", "2.0", code=offering("sds"))
    with pytest.raises(PluginClash) as caught:
        load_plugins()
    assert str(caught.value) == (
        "guidance 'sds' is offered twice: by sd-core 0.1.0 and by my-sds 2.0. "
        "Uninstall one, or block it with --block my-sds."
    )


def test_blocking_one_ends_a_clash(site):
    site.install("my-esd", "2.0", code=offering("esd"))
    site.install("sd-guidance-drift", code=offering("esd"))
    assert listed(blocked=["my-esd"]).source("guidance", "esd").version == "0.1"


# what a user reads who asks for something else


def test_a_wrong_name_gets_the_installed_ones_and_the_nearest(site):
    site.install("a", code=offering("esd", "bridge", "jsd"))
    with pytest.raises(PluginError) as caught:
        listed().find("guidance", "edd")
    assert str(caught.value) == (
        "no guidance named 'edd'. Installed: bridge, esd, jsd. Did you mean 'esd'?"
    )


def test_a_missing_name_is_told_together_with_the_broken_and_the_blocked(site):
    site.install("sd-guidance-lost", code="raise ImportError('libcuda')")
    site.install("my-esd", code=offering("esd"))
    site.install("pack", code=offering("jsd"), point="jsd")
    with pytest.raises(PluginError) as caught:
        listed(blocked=["my-esd", "jsd"]).source("guidance", "usd")
    assert str(caught.value) == (
        "no guidance named 'usd'. Installed: none. "
        "sd-guidance-lost 0.1 is installed but broken (ImportError: libcuda). "
        "my-esd is blocked. jsd of pack is blocked."
    )


def test_a_wrong_kind_gets_the_kinds(site):
    with pytest.raises(PluginError) as caught:
        listed().find("guidence", "esd")
    assert str(caught.value) == (
        "no kind 'guidence'. Kinds: command, guidance, metric, prior, renderer. "
        "Did you mean 'guidance'?"
    )
