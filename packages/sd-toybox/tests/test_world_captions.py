"""The grammar: what a prompt may say, and what is said to a prompt that is not in it."""

import pytest

from sd_core.errors import ConfigError
from sd_core.prompts import PromptOptions, view_text
from sd_toybox.world.captions import (
    CORRUPTION_WORDS,
    GRAMMAR,
    VIEWS,
    WORDS,
    Caption,
    parse_caption,
    vocabulary,
)
from sd_toybox.world.kinds import COLOURS, KINDS

SOURCE = (
    "a red bear, oversaturated, smooth, pixelated, cartoon, foggy, hazy, blurry, bad structure, "
    "noisy, malformed"
)


@pytest.mark.parametrize("view", [None, *VIEWS])
@pytest.mark.parametrize("words", [(), ("sharp",), ("noisy", "bad structure"), ("painting",)])
def test_captions_come_back_from_their_texts(view, words):
    for kind in KINDS:
        for colour in COLOURS:
            caption = Caption(kind, colour, view, words)
            assert parse_caption(caption.text()) == caption


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Caption()),
        ("   ", Caption()),
        ("a red bear", Caption("bear", "red")),
        ("A Red BEAR,side view", Caption("bear", "red", "side")),
        (" a  red bear ,  Side View,SHARP ", Caption("bear", "red", "side", ("sharp",))),
        ("a red bear, sharp, back view, noisy", Caption("bear", "red", "back", ("sharp", "noisy"))),
        ("a red bear, sharp, sharp", Caption("bear", "red", None, ("sharp",))),
        ("a red bear, side view, side view", Caption("bear", "red", "side")),
        ("side view of a red bear, sharp", Caption("bear", "red", "side", ("sharp",))),
        ("blurry, noisy", Caption(words=("blurry", "noisy"))),
        ("side view", Caption(view="side")),
        ("a red bear, overhead view", Caption("bear", "red", "overhead")),
        (
            "a red bear, detailed high resolution, high quality, sharp",
            Caption("bear", "red", None, ("detailed high resolution", "high quality", "sharp")),
        ),
        (f"{SOURCE}, side view", Caption("bear", "red", "side", CORRUPTION_WORDS)),
    ],
)
def test_texts_are_read(text, expected):
    assert parse_caption(text) == expected


@pytest.mark.parametrize("views", ["suffix", "prefix", "none"])
@pytest.mark.parametrize("text", ["a red bear", SOURCE, "a blue mug, painting"])
def test_what_the_core_makes_of_a_prompt_is_read(text, views):
    options = PromptOptions(text=text, views=views)
    plain = parse_caption(text)
    for view in VIEWS:
        caption = parse_caption(view_text(options, view))
        said = None if views == "none" else view
        assert caption == Caption(plain.kind, plain.colour, said, plain.words)


@pytest.mark.parametrize(
    ("text", "start", "hint"),
    [
        ("a red beer", "'a red beer' in 'a red beer' is not in the toybox.", "'a red bear'"),
        ("red bear", "'red bear' in 'red bear' is not in the toybox.", "'a red bear'"),
        ("a red bear, side", "'side' in 'a red bear, side' is not", "'side view'"),
        ("a red bear, blury", "'blury' in 'a red bear, blury' is not", "'blurry'"),
        ("a DSLR photo of a corgi", "'a dslr photo of a corgi' in 'a DSLR photo", None),
        ("a red bear,, sharp", "'' in 'a red bear,, sharp' is not", None),
        ("an inside view of a red bear", "'an inside view of a red bear' in", None),
        ("a red\nbeer", "'a red beer' in 'a red beer' is not", "'a red bear'"),
    ],
)
def test_other_texts_are_refused_with_the_grammar_on_one_line(text, start, hint):
    with pytest.raises(ConfigError) as caught:
        parse_caption(text)
    message = str(caught.value)
    assert message.startswith(start)
    assert message.endswith(GRAMMAR)
    assert "\n" not in message
    if hint:
        assert f"Did you mean {hint}?" in message


def test_two_objects_and_two_views_are_refused():
    with pytest.raises(ConfigError, match="the object comes first and alone"):
        parse_caption("a red bear, a blue mug")
    with pytest.raises(ConfigError, match="the object comes first and alone"):
        parse_caption("sharp, a blue mug")
    with pytest.raises(ConfigError, match="seen from two sides, front and side"):
        parse_caption("a red bear, front view, side view")


def test_the_grammar_names_everything():
    for word in (*KINDS, *COLOURS, *WORDS, *(f"{view} view" for view in VIEWS)):
        assert word in GRAMMAR


def test_the_vocabulary_holds_every_word_once():
    words = vocabulary()
    assert len(set(words)) == len(words)
    for text in (f"{SOURCE}, side view", "overhead view of a grey house, painting, high quality"):
        for word in text.replace(",", " , ").split():
            assert word in words
    assert not any(" " in word for word in words)
