"""The last line of `score-distill templates`: what makes a run take them."""

from pathlib import Path

import pytest

import sd_guidance_usd
from sd_core.experiment import Experiment
from sd_core.plugins import load_plugins
from sd_guidance_usd.templates_command import next_command, usds_of


def last_words(told, *, exact=False) -> str:
    """For an experiment as a table."""
    experiment = Experiment(told, load_plugins(installed=False, extra=[sd_guidance_usd]))
    return next_command(experiment, usds_of(experiment), Path("t"), exact=exact)


SHORT = "--guidance usd --set guidance.classifier.templates=t"


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, f"score-distill run --prompt 'a toy' {SHORT}"),
        ({"stages": [{"guidance": "usd"}]}, f"score-distill run --prompt 'a toy' {SHORT}"),
        (
            {"prior": "gaussian-mixture"},
            f"score-distill run --prompt 'a toy' --prior gaussian-mixture {SHORT}",
        ),
        ({"seed": 3}, f"the same experiment and {SHORT}"),
        ({"prompt": {"text": "a toy", "negative": "x"}}, f"the same experiment and {SHORT}"),
        ({"prior": {"name": "gaussian-mixture", "memory": 64}}, f"the same experiment and {SHORT}"),
        ({"stages": [{"steps": 9}]}, f"the same experiment and {SHORT}"),
        ({"stages": [{"renderer": "affine"}]}, f"the same experiment and {SHORT}"),
        (
            {"stages": [{"guidance": {"name": "usd", "limit": "none"}}]},
            "the same experiment and --set guidance.classifier.templates=t",
        ),
    ],
    ids=str,
)
def test_the_last_line_is_a_whole_command_only_after_a_prompt_alone(more, line):
    assert last_words({"prompt": "a toy", **more}) == line


def test_the_last_line_names_every_usd_that_takes_the_templates():
    usd = {"name": "usd", "classifier": {"candidates": 3}}
    mix = {"name": "mix", "target": "usd", "source": "vsd"}
    others = [
        {"name": "usd", "classifier": {"kind": "text"}},
        {"name": "usd", "classifier": {"phrases": {"up": "from above"}}},
        {"name": "sds"},
    ]
    methods = [others[0], usd, *others[1:], mix]
    assert last_words({"prompt": "a toy", "stages": [{"guidance": each} for each in methods]}) == (
        "the same experiment without stages.1.guidance.classifier.candidates and "
        "--set stages.1.guidance.classifier.templates=t "
        "--set stages.4.guidance.options.usd.classifier.templates=t"
    )


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ({}, " --set guidance.classifier.kind=matching"),
        ({"kind": "matching"}, " --set guidance.classifier.kind=matching"),
        ({"kind": "noised"}, ""),
    ],
)
def test_on_an_exact_prior_the_last_line_names_the_kind_unless_it_is_noised(kind, more):
    stage = {"guidance": {"name": "usd", "classifier": kind}}
    assert last_words({"prompt": "a toy", "stages": [stage]}, exact=True) == (
        f"the same experiment and --set guidance.classifier.templates=t{more}"
    )
