import json

import pytest

from sd_core.errors import ConfigError
from sd_core.experiment_options import (
    ExperimentOptions,
    choose,
    override,
    read_experiment_file,
)

TWO = {"prompt": "x", "stages": [{"renderer": {"name": "affine"}}, {"steps": 5}]}


def mistake(function, *arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# the table


def test_a_prompt_alone_is_an_experiment():
    options = ExperimentOptions.model_validate({"prompt": "a red bear"})
    assert options.prompt.text == "a red bear"
    assert len(options.stages) == 1


def test_a_prompt_may_be_a_table():
    options = ExperimentOptions.model_validate({"prompt": {"text": "a", "views": "none"}})
    assert options.prompt.views == "none"


# --set


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("7.5", 7.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("[1, 2.5]", [1, 2.5]),
        ('"7"', "7"),
        ("{a = 1}", {"a": 1}),
        ("linear-descent", "linear-descent"),
        (" padded ", "padded"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_a_value_is_toml_or_else_text(text, value):
    assert override({}, [f"run.it={text}"]) == {"run": {"it": value}}


def test_a_short_path_means_every_stage():
    table = override(TWO, ["guidance.scale=3"])
    assert [stage["guidance"] for stage in table["stages"]] == [{"scale": 3}, {"scale": 3}]


def test_a_long_path_means_one_stage():
    table = override(TWO, ["stages.1.guidance.timesteps.low=0.1"])
    assert table["stages"][0] == {"renderer": {"name": "affine"}}
    assert table["stages"][1] == {"steps": 5, "guidance": {"timesteps": {"low": 0.1}}}


def test_a_short_path_makes_the_first_stage_where_there_is_none():
    assert override({}, ["steps=3"]) == {"stages": [{"steps": 3}]}
    assert override({}, ["stages.0.steps=3"]) == {"stages": [{"steps": 3}]}


def test_later_assignments_win():
    assert override({}, ["seed=1", "seed=2"]) == {"seed": 2}


def test_the_table_that_was_given_is_left_alone():
    before = json.dumps(TWO)
    override(TWO, ["steps=9"])
    choose(TWO, "guidance", "vsd")
    assert json.dumps(TWO) == before


def test_a_prompt_of_text_becomes_a_table_when_a_part_is_set():
    table = override({"prompt": "x"}, ["prompt.negative=ugly"])
    assert table == {"prompt": {"text": "x", "negative": "ugly"}}


def test_a_bare_name_becomes_a_table_when_an_option_is_set():
    table = {"prior": "image-bank", "stages": [{"guidance": "vsd", "renderer": "nerf"}]}
    asked = ["prior.folder=f", "guidance.scale=3", "stages.0.renderer.size=8"]
    assert override(table, asked) == {
        "prior": {"name": "image-bank", "folder": "f"},
        "stages": [
            {"guidance": {"name": "vsd", "scale": 3}, "renderer": {"name": "nerf", "size": 8}}
        ],
    }


@pytest.mark.parametrize("key", ["guidance", "renderer"])
def test_a_bare_name_stands_for_its_table_in_a_stage(key):
    options = ExperimentOptions.model_validate({"prompt": "x", "stages": [{key: "vsd"}]})
    assert getattr(options.stages[0], key) == {"name": "vsd"}


def test_a_bare_name_stands_for_the_table_of_the_prior():
    options = ExperimentOptions.model_validate({"prompt": "x", "prior": "image-bank"})
    assert options.prior == {"name": "image-bank"}


@pytest.mark.parametrize(
    ("assignment", "hint"),
    [
        ("optimizer.learning_rate=3", " Did you mean 'optimiser'?"),
        ("guidence=vsd", " Did you mean 'guidance'?"),
        ("stage.0.steps=1", " Did you mean 'stages'?"),
        ("zzz=1", ""),
    ],
)
def test_an_unknown_first_key_is_told_those_of_a_stage_too(assignment, hint):
    key = assignment.split(".")[0].split("=")[0]
    assert mistake(override, TWO, [assignment]) == (
        f"--set {assignment}: unknown key '{key}'. Known keys: cameras, guidance, optimiser, "
        f"prior, prompt, renderer, run, seed, stages, steps.{hint}"
    )


def test_an_item_of_a_list_can_be_set():
    assert override({"prior": {"shape": [2, 1, 1]}}, ["prior.shape.0=3"]) == {
        "prior": {"shape": [3, 1, 1]}
    }
    assert override(TWO, ["stages.1={steps = 1}"])["stages"][1] == {"steps": 1}


def test_a_null_gives_way_to_a_table():
    table = {"stages": [{"renderer": None}]}
    assert override(table, ["renderer.mean=[1, 1]"]) == {"stages": [{"renderer": {"mean": [1, 1]}}]}


def test_a_stage_that_goes_on_with_its_scene_gets_no_renderer_by_a_short_path():
    assert "renderer" not in override(TWO, ["renderer.mean=[1, 1]"])["stages"][1]
    null = {"stages": [{}, {"renderer": None}]}
    assert override(null, ["renderer.mean=[1, 1]"])["stages"][1] == {"renderer": None}
    scratch = {"stages": [{}, {"start_from": "scratch"}]}
    assert "renderer" in override(scratch, ["renderer.mean=[1, 1]"])["stages"][1]


@pytest.mark.parametrize("assignment", ["foo", "=5", ".a=5", "a..b=5", "a.=5", ""])
def test_what_is_no_assignment_is_shown_how(assignment):
    assert mistake(override, {}, [assignment]) == (
        f"--set {assignment} is not an assignment. Write --set stages.0.guidance.scale=7.5."
    )


@pytest.mark.parametrize("stage", ["2", "x", "-1"])
def test_a_stage_that_does_not_exist_is_named(stage):
    assert mistake(override, TWO, [f"stages.{stage}.steps=1"]) == (
        f"--set stages.{stage}.steps=1: there is no stages.{stage}. Give a number from 0 to 1."
    )


def test_an_item_that_does_not_exist_is_named_by_its_list():
    assert mistake(override, {"prior": {"shape": [2]}}, ["prior.shape.3=1"]) == (
        "--set prior.shape.3=1: there is no prior.shape.3. Give a number from 0 to 0."
    )


def test_a_value_is_no_table():
    assert mistake(override, {"seed": 3}, ["seed.deep=1"]) == (
        "--set seed.deep=1: seed is a value, not a table."
    )


@pytest.mark.parametrize("stages", [5, "x", [1], {"a": 1}])
def test_stages_must_be_tables(stages):
    assert mistake(override, {"stages": stages}, ["steps=3"]) == (
        "stages is not a list of tables. Write each stage under [[stages]]."
    )


# --guidance, --renderer, --prior


def test_another_method_replaces_the_options_of_the_old_one():
    table = {"stages": [{"guidance": {"name": "sds", "scale": 3}}, {}]}
    assert choose(table, "guidance", "vsd") == {
        "stages": [{"guidance": {"name": "vsd"}}, {"guidance": {"name": "vsd"}}]
    }


def test_the_same_method_keeps_its_options():
    table = {"stages": [{"guidance": {"name": "sds", "scale": 3}}]}
    assert choose(table, "guidance", "sds") == table


@pytest.mark.parametrize("told", ["gaussian-mixture", 5, None])
def test_a_choice_replaces_what_is_no_table(told):
    assert choose({"prior": told}, "prior", "image-bank") == {"prior": {"name": "image-bank"}}


def test_another_renderer_leaves_the_stages_that_go_on_with_its_scene():
    assert choose(TWO, "renderer", "nerf")["stages"] == [
        {"renderer": {"name": "nerf"}},
        {"steps": 5},
    ]


# files


def test_toml_is_read(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('prompt = "α"\n[[stages]]\nsteps = 3\n', "utf-8")
    assert read_experiment_file(path) == {"prompt": "α", "stages": [{"steps": 3}]}


def test_the_config_of_a_run_folder_is_read(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"schema": 1, "experiment": {"prompt": "x"}}')
    assert read_experiment_file(path) == {"prompt": "x"}
    path.write_text('{"prompt": "x"}')
    assert read_experiment_file(path) == {"prompt": "x"}


@pytest.mark.parametrize("name", ["a.toml", "a.txt", "a"])
def test_broken_toml_says_where(tmp_path, name):
    path = tmp_path / name
    path.write_text("prompt = \n")
    assert mistake(read_experiment_file, path) == (
        f"{path} is not valid TOML: Invalid value (at line 1, column 10)."
    )


@pytest.mark.parametrize("text", ["[1]", "5", "null", '"x"', '{"experiment": [1]}'])
def test_json_without_a_table_is_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    assert mistake(read_experiment_file, path) == (
        f"{path} is not valid JSON: it holds no table of options."
    )


def test_broken_json_says_where(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{")
    assert mistake(read_experiment_file, path).startswith(f"{path} is not valid JSON: Expecting ")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    missing = tmp_path / "none.toml"
    assert mistake(read_experiment_file, missing) == (
        f"cannot read the experiment file {missing}: [Errno 2] No such file or directory: "
        f"'{missing}'."
    )
    assert "Is a directory" in mistake(read_experiment_file, tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert mistake(read_experiment_file, binary).startswith(
        f"cannot read the experiment file {binary}: 'utf-8' codec can't decode"
    )
