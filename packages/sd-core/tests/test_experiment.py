from dataclasses import replace

import pytest
import torch

from sd_core.building import build_prior, build_stage, choose_device
from sd_core.errors import ConfigError, PluginError
from sd_core.experiment import Experiment
from sd_core.run_folder import fingerprint
from small_runs import plugins, same, table


def experiment(*stages, **options) -> Experiment:
    return Experiment({**table(*stages), **options}, plugins())


def mistake(*stages, kind=ConfigError, **options) -> str:
    with pytest.raises(kind) as caught:
        checked = experiment(*stages, **options)
        build_stage(checked, 0, build_prior(checked), None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# checking


def test_the_defaults_are_sds_on_the_two_gaussians():
    chosen = Experiment({"prompt": "x"}, plugins())
    names = [choice.entry.name for choice in chosen.choices()]
    assert names == ["gaussian-mixture", "sds", "affine"]


def test_options_without_a_name_are_the_defaults_options():
    chosen = experiment({"guidance": {"scale": 3.0}}, prior={"memory": 7})
    assert chosen.stages[0].guidance.options.scale == 3.0
    assert chosen.prior.options.memory == 7


def test_resolved_is_complete_and_resolves_to_itself():
    chosen = experiment({"guidance": {"name": "vsd"}}, {"cameras": {"batch": 2}})
    resolved = chosen.resolved()
    assert resolved["stages"][0]["guidance"]["estimator"]["updates_per_step"] == 1
    assert resolved["stages"][1]["renderer"] is None
    again = Experiment(resolved, plugins())
    assert same(again.resolved(), resolved)
    assert fingerprint(again.resolved()) == fingerprint(chosen.resolved())


def test_only_the_run_table_leaves_the_fingerprint_alone():
    plain = experiment({})
    assert fingerprint(experiment({}, run={"preview_every": 7}).resolved()) == fingerprint(
        plain.resolved()
    )
    for other in (
        experiment({}, seed=1),
        experiment({}, prompt="other"),
        experiment({"steps": 7}),
        experiment({"guidance": {"scale": 3.0}}),
        experiment({}, {}),
        experiment({}, prior={"memory": 7}),
    ):
        assert fingerprint(other.resolved()) != fingerprint(plain.resolved())


def test_a_stage_goes_on_with_the_scene_and_the_cameras_of_the_stage_before():
    chosen = experiment({"cameras": {"batch": 3}}, {"cameras": {"light": "camera"}})
    first, second = chosen.stages
    assert first.renderer is not None and second.renderer is None
    assert (second.cameras.batch, second.cameras.light) == (3, "camera")


def test_a_stage_from_scratch_has_a_scene_of_its_own():
    _, second = experiment({}, {"start_from": "scratch"}).stages
    assert second.renderer is not None


def test_a_stage_from_scratch_begins_the_last_scene_anew():
    scene = {"renderer": {"name": "affine", "mean": [3.0, 3.0]}}
    for between in ({}, {"guidance": "vsd"}):
        *_, last = experiment(scene, between, {"start_from": "scratch"}).stages
        assert last.renderer.options.mean == (3.0, 3.0)
    _, tiles = experiment({"renderer": {"name": "tiles"}}, {"start_from": "scratch"}).stages
    assert tiles.renderer.entry.name == "tiles"
    assert tiles.cameras.batch == 4


def test_a_scene_without_a_name_is_the_last_one_with_other_options():
    scene = {"renderer": {"name": "tiles", "side": 4}}
    _, second = experiment(scene, {"renderer": {"side": 16}}).stages
    assert (second.renderer.entry.name, second.renderer.options.side) == ("tiles", 16)
    _, named = experiment(scene, {"renderer": "tiles"}).stages
    assert named.renderer.options.side == 8


def test_a_bare_name_is_a_table_of_defaults():
    bare = experiment(
        {"guidance": "vsd", "renderer": "tiles"}, prior={"name": "gaussian-mixture"}
    ).resolved()
    assert bare["stages"][0]["guidance"]["name"] == "vsd"
    assert bare["stages"][0]["renderer"] == {"name": "tiles", "side": 8}
    assert experiment({}, prior="gaussian-mixture").resolved() == experiment({}).resolved()


def test_a_prior_of_pictures_is_given_a_voxel_grid_where_one_is_installed():
    pictures = {"prompt": "x", "prior": {"name": "image-bank", "folder": "f"}}
    assert Experiment(pictures, plugins()).stages[0].renderer.entry.name == "affine"
    tiles = plugins().entries["renderer", "tiles"]
    grid = replace(tiles, entry=replace(tiles.entry, name="voxel-grid"))
    more = replace(plugins(), entries={**plugins().entries, ("renderer", "voxel-grid"): grid})
    assert Experiment(pictures, more).stages[0].renderer.entry.name == "voxel-grid"
    assert Experiment({"prompt": "x"}, more).stages[0].renderer.entry.name == "affine"


def test_cameras_begin_with_those_of_the_renderer():
    assert experiment({}).stages[0].cameras.elevation_law == "sphere"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            {"guidance": {"name": "sds", "scael": 1}},
            "unknown key 'scael' in stages.0.guidance. Known keys: scale, timesteps, weight. "
            "Did you mean 'scale'?",
        ),
        (
            {"guidance": {"name": "vsd", "estimator": {"learn_rate": 1}}},
            "unknown key 'learn_rate' in stages.0.guidance.estimator. Known keys: camera_dropout, "
            "learning_rate, shared_noise, updates_per_step, warm_up_steps, weight_decay. "
            "Did you mean 'learning_rate'?",
        ),
        (
            {"guidance": {"estimator": {}}},
            "unknown key 'estimator' in stages.0.guidance. Known keys: scale, timesteps, weight. "
            "No method was told, so it is sds; 'estimator' is an option of --guidance vsd.",
        ),
        ({"guidance": {"name": 5}}, "stages.0.guidance has no name. Add name = one of: "),
        ({"guidance": 5}, "stages.0.guidance is 5, but it should be a table."),
        ({"renderer": ["x"]}, "stages.0.renderer is ['x'], but it should be a table."),
        ({"guidance": "vdd"}, "no guidance named 'vdd'. Installed: "),
        (
            {"cameras": {"batch": 0}},
            "stages.0.cameras.batch is 0, but it should be greater than or equal to 1.",
        ),
        (
            {"optimiser": {"betas": [0.9, 1.0]}},
            "stages.0.optimiser.betas.1 is 1.0, but it should be less than 1.",
        ),
        (
            {"renderer": {"name": "tiles"}, "guidance": {"name": "no-method"}},
            "guidance 'no-method': fake_plugin:no_method gave a int, not an AbstractGuidance. ",
        ),
        (
            {"guidance": {"name": "no-options"}},
            "guidance 'no-options': its config fake_plugin:Sick is not a subclass of "
            "sd_core.config.Options. Tell its author.",
        ),
        (
            {"guidance": {"name": "mix", "options": {"vsd": {}}}},
            "stages.0.guidance: there are options for 'vsd', but no part comes from it. ",
        ),
        (
            {"guidance": {"name": "mix", "source": "sick"}},
            "guidance 'mix' cannot take its source from 'sick': that method is not made of ",
        ),
    ],
    ids=str,
)
def test_a_mistake_in_a_stage_says_where(stage, message):
    assert mistake(stage, kind=(ConfigError, PluginError)).startswith(message)


def test_a_second_stage_is_counted():
    assert mistake({}, {"steps": 0}) == (
        "stages.1.steps is 0, but it should be greater than or equal to 1."
    )


def test_without_any_renderer_the_error_says_what_is_left_out():
    others = {key: each for key, each in plugins().entries.items() if key[0] != "renderer"}
    fewer = replace(plugins(), entries=others, blocked=("scenes of my-scenes",))
    with pytest.raises(PluginError) as caught:
        Experiment(table({}), fewer)
    assert str(caught.value) == (
        "no renderer named 'affine'. Installed: none. scenes of my-scenes is blocked. Prior "
        "'gaussian-mixture' is made for affine. The package sd-render brings volumes and pictures; "
        "or choose another with --renderer."
    )


def test_a_scene_that_does_not_fit_the_prior_is_refused():
    cube = [{"mean": [0.0] * 3, "covariance": torch.eye(3).tolist()}]
    assert mistake({}, prior={"shape": [3, 1, 1], "components": cube}) == (
        "renderer 'affine' draws points of shape (2, 1, 1), but the prior's are (3, 1, 1). "
        "Choose another renderer, or a prior of points."
    )


# building


def test_the_same_seed_builds_the_same_bits():
    def built(seed):
        chosen = experiment({"renderer": {"name": "tiles"}}, seed=seed)
        return build_stage(chosen, 0, build_prior(chosen), None).renderer.state_dict()

    assert same(built(3), built(3))
    assert not same(built(3), built(4))


def test_stages_draw_numbers_of_their_own():
    chosen = experiment({}, {})
    prior = build_prior(chosen)
    first = build_stage(chosen, 0, prior, None)
    second = build_stage(chosen, 1, prior, first.renderer)
    assert second.renderer is first.renderer
    assert second.generator.initial_seed() != first.generator.initial_seed()


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_optimiser_is_as_told(name):
    told = {"name": name, "learning_rate": 0.5, "weight_decay": 0.25, "betas": [0.1, 0.2]}
    chosen = experiment({"optimiser": told})
    optimiser = build_stage(chosen, 0, build_prior(chosen), None).optimiser
    (group,) = optimiser.param_groups
    assert type(optimiser).__name__.lower() == name
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    assert group.get("betas", (0.1, 0.2)) == (0.1, 0.2)


def test_auto_is_cuda_only_where_there_is_one():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto").type == expected
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "meta", "tpu", "cpu:x", " "])
def test_a_device_that_cannot_be_used_is_an_error(name):
    with pytest.raises(ConfigError) as caught:
        choose_device(name)
    message = str(caught.value)
    assert message.startswith(f"run.device is '{name}', but it cannot be used (")
    assert message.endswith("). Use cpu or auto.")
    assert "\n" not in message
