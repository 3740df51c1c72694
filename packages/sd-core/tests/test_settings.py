import pytest

from sd_core.experiment import Experiment
from sd_core.settings import told_apart
from small_runs import plugins, table


def experiment(prompt="two gaussians", seed=0, stages=1, steps=2, **guidance):
    stage = {"steps": steps, "guidance": {"name": "sds", **guidance}}
    return Experiment({**table(*[stage] * stages), "prompt": prompt, "seed": seed}, plugins())


def test_seeds_and_prompts_are_repetitions():
    told = told_apart([experiment(), experiment(seed=1), experiment("two bears")])
    assert told == ["sds", "sds", "sds"]


def test_options_in_which_runs_differ_name_them():
    told = told_apart([experiment(scale=7.5), experiment(scale=20.0), experiment(scale=7.5)])
    assert told == ["sds, scale=7.5", "sds, scale=20.0", "sds, scale=7.5"]


def test_an_option_of_two_stages_is_told_by_its_path():
    told = told_apart([experiment(stages=2, scale=2.0), experiment(stages=2, scale=3.0)])
    assert told[0] == "sds, stages.0.guidance.scale=2.0, stages.1.guidance.scale=2.0"


def test_many_differences_are_numbered():
    one, other = experiment(stages=2), experiment(stages=2, scale=2.0, weight="uniform", steps=3)
    assert told_apart([one, other, one]) == ["sds, setting 1", "sds, setting 2", "sds, setting 1"]


@pytest.mark.parametrize(("prompts", "expected"), [("ab", "sds"), ("aa", "sds, views=none")])
def test_a_text_that_goes_with_the_prompt_is_no_setting(prompts, expected):
    told = [
        {"text": prompts[0], "views": "suffix"},
        {"text": prompts[1], "views": "none"},
    ]
    experiments = [
        Experiment({**table({"steps": 2}), "prompt": prompt}, plugins()) for prompt in told
    ]
    assert told_apart(experiments)[1] == expected
