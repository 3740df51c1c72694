"""What the text of a class is, and which options count for which kind of classifier."""

import pytest

from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_guidance_usd.options import USDOptions
from sd_guidance_usd.phrases import text_of


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("front view", "a nurse, front view"),
        ("a female {prompt}", "a female a nurse"),
        ("{prompt}", "a nurse"),
        ("{prompt} and {prompt}", "a nurse and a nurse"),
    ],
)
def test_a_phrase_is_added_after_a_comma_or_takes_the_prompt_in(phrase, text):
    assert text_of("a nurse", phrase) == text


def options(**values):
    return parse_options(USDOptions, values, where="guidance")


@pytest.mark.parametrize(
    ("classifier", "told"),
    [
        ({"kind": "text", "templates": "folder"}, "templates is for the kind matching"),
        ({"kind": "text", "candidates": 3}, "candidates is for the kind matching"),
        ({"kind": "text", "mirrored": ["side"]}, "mirrored is for the kind matching"),
        ({"kind": "text", "pose_temperature": 0.2}, "pose_temperature is for the kind matching"),
        ({"text_temperature": 0.1}, "for the kind text, but the kind is exact or matching"),
        ({"kind": "exact", "whole_phrases": True}, "for the kind text, but the kind is exact"),
        (
            {"kind": "exact", "candidates": 3},
            "kind matching or noised, but the kind is exact",
        ),
        ({"kind": "mine:judge", "grid": 8}, "for the kind matching, but the kind is mine:judge"),
        ({"kind": "mine:judge", "text_temperature": 1}, "for the kind text, but the kind is mine"),
        ({"templates": "x", "candidates": 3}, "candidates is for templates that the prior makes"),
        (
            {"templates": "x", "kind": "matching", "phrases": {"a": "a"}},
            "phrases is for templates that the prior makes, but classifier.templates are given",
        ),
        ({"phrases": {}}, "guidance.classifier.phrases: there is no class. Name each with its "),
        ({"phrases": {"a": " "}}, "class 'a' has an empty phrase"),
        ({"phrases": {"a": "a {promt}"}}, "'a {promt}' of class 'a' has braces"),
        (
            {"kind": "text", "whole_phrases": True, "phrases": {"a": "a {prompt}"}},
            "with whole_phrases nothing is put in",
        ),
    ],
)
def test_slips_and_options_without_effect_are_refused(classifier, told):
    with pytest.raises(ConfigError) as caught:
        options(classifier=classifier)
    assert told in str(caught.value)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_what_a_preset_says_of_matching_is_not_told_and_a_resumed_run_is_read_again(preset):
    for told in (
        {"kind": "text", "text_temperature": 0.1},
        {"kind": "exact"},
        {"kind": "mine:judge"},
        {"kind": "matching", "templates": "folder"},
    ):
        first = options(preset=preset, classifier=told)
        assert options(**first.model_dump(mode="json")) == first
