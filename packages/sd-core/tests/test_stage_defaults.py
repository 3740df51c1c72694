"""A prior says which scene and cameras suit it; the experiment's own words go over that."""

import pytest

import fake_plugin
import photo_prior
from sd_core.config import over
from sd_core.errors import ConfigError, PluginError
from sd_core.experiment import Experiment
from sd_core.plugins import load_plugins


def experiment(*stages, prior="photos") -> Experiment:
    plugins = load_plugins(installed=False, extra=[fake_plugin, photo_prior])
    return Experiment({"prompt": "x", "prior": prior, "stages": list(stages)}, plugins)


def test_a_silent_stage_takes_all_that_suits_the_prior():
    (stage,) = experiment({}).stages
    assert stage.renderer.entry.name == "film"  # the first of its scenes that is installed
    assert stage.renderer.options.side == 5
    assert stage.options.steps == 12
    assert (stage.options.optimiser.name, stage.options.optimiser.learning_rate) == ("sgd", 0.5)
    assert stage.options.optimiser.eps == 1e-15  # of which nobody spoke


def test_cameras_are_the_renderers_then_the_priors_then_those_for_this_scene():
    (stage,) = experiment({}).stages
    assert stage.cameras.elevation_deg == (5.0, 6.0)
    assert stage.cameras.distance == (2.0, 2.0)
    assert stage.cameras.batch == 3


def test_the_experiments_words_go_over_the_priors():
    told = {
        "steps": 1000,  # what it would be without any prior: said all the same
        "renderer": {"side": 6},
        "optimiser": {"learning_rate": 0.25},
        "cameras": {"batch": 1},
    }
    (stage,) = experiment(told).stages
    assert stage.options.steps == 1000
    assert stage.renderer.options.side == 6
    assert (stage.options.optimiser.name, stage.options.optimiser.learning_rate) == ("sgd", 0.25)
    assert (stage.cameras.batch, stage.cameras.distance) == (1, (2.0, 2.0))


def test_a_scene_that_the_prior_does_not_know_still_gets_its_cameras():
    (stage,) = experiment({"renderer": "tiles"}).stages
    assert stage.renderer.options.side == 8
    assert (stage.cameras.distance, stage.cameras.batch) == ((2.0, 2.0), 7)
    assert stage.options.steps == 1000


def test_a_stage_that_goes_on_takes_steps_and_optimiser_of_its_scene():
    _, second = experiment({}, {"guidance": "vsd"}).stages
    assert second.renderer is None
    assert (second.options.steps, second.options.optimiser.name) == (12, "sgd")


def test_what_came_of_it_is_recorded_and_runs_again_alike():
    chosen = experiment({"cameras": {"batch": 2}}, {})
    resolved = chosen.resolved()
    assert [stage["steps"] for stage in resolved["stages"]] == [12, 12]
    assert resolved["stages"][0]["optimiser"]["name"] == "sgd"
    again = Experiment(resolved, chosen.plugins)
    assert again.resolved() == resolved


def test_without_another_the_first_installed_default_prior_is_taken(monkeypatch):
    monkeypatch.setattr("sd_core.experiment.DEFAULT_PRIORS", ("absent", "photos", "wrong"))
    plugins = experiment({}).plugins
    assert Experiment({"prompt": "x"}, plugins).prior.entry.name == "photos"
    monkeypatch.setattr("sd_core.experiment.DEFAULT_PRIORS", ("absent",))
    with pytest.raises(PluginError, match=r"no prior named 'absent'"):
        Experiment({"prompt": "x"}, plugins)


def test_where_none_of_its_scenes_is_installed_the_message_names_them():
    with pytest.raises(PluginError) as caught:
        experiment({}, prior="remote")
    assert str(caught.value) == (
        "no renderer named 'diorama'. Installed: affine, film, particles, solid, tiles. Prior "
        "'remote' is made for hologram or diorama. The package sd-render brings volumes and "
        "pictures; or choose another with --renderer."
    )
    assert experiment({"renderer": "tiles"}, prior="remote").stages


def test_stages_of_a_wrong_type_name_the_prior():
    with pytest.raises(PluginError, match=r"^prior 'wrong': its stages .*:WRONG is not a "):
        experiment({}, prior="wrong")


def test_a_mistake_in_them_is_told_like_a_users():
    with pytest.raises(ConfigError, match=r"^unknown key 'distence' in stages\.0\.cameras"):
        experiment({}, prior="mistaken")


def test_over_lays_tables_over_tables_and_replaces_the_rest():
    default = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": {"g": 4}, "h": [1, 2]}
    told = {"b": {"d": {"e": 5}}, "f": 6, "h": [3]}
    assert over(told, default) == {"a": 1, "b": {"c": 2, "d": {"e": 5}}, "f": 6, "h": [3]}
    assert default["b"]["d"] == {"e": 3}  # untouched
