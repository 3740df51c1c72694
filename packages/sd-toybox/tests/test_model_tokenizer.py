"""The tokenizer: every word of the grammar is one token, and every caption fits its window."""

from itertools import pairwise

import pytest
import torch

from sd_toybox.model.tokenizer import (
    END,
    START,
    WINDOW,
    merges_of,
    new_tokenizer,
    token_numbers,
    token_rows,
)
from sd_toybox.world.captions import CORRUPTION_WORDS, QUALITY_WORDS, WORDS, Caption, vocabulary
from sd_toybox.world.samples import sample_labels


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer()


def words_of(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False).input_ids)


def by_hand(word, merges):
    """Byte-pair encoding as published: again and again the pair that comes first in the list."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    order = {tuple(merge.split()): place for place, merge in enumerate(merges)}
    while found := [pair for pair in pairwise(pieces) if pair in order]:
        first = min(found, key=order.__getitem__)
        place = list(pairwise(pieces)).index(first)
        pieces[place : place + 2] = ["".join(first)]
    return pieces


def test_every_word_of_the_grammar_is_one_token_and_comes_back(tokenizer):
    for word in vocabulary():
        ids = tokenizer(word, add_special_tokens=False).input_ids
        assert len(ids) == 1
        assert tokenizer.decode(ids) == word


def test_no_two_words_share_a_token(tokenizer):
    ids = [tokenizer(word, add_special_tokens=False).input_ids[0] for word in vocabulary()]
    assert len(set(ids)) == len(vocabulary())
    assert not {tokenizer.bos_token_id, tokenizer.eos_token_id} & set(ids)


@pytest.mark.parametrize(
    "words", [("bear", "ear", "pear"), ("abab", "bab", "ba", "a"), ("mm", "m")]
)
def test_words_that_hold_each_other_are_joined_all_the_same(words):
    merges = merges_of(words)
    assert [by_hand(word, merges) for word in words] == [[word + "</w>"] for word in words]


def test_every_merge_and_its_result_is_a_token():
    numbers = token_numbers(vocabulary())
    for merge in merges_of(vocabulary()):
        left, right = merge.split()
        assert {left, right, left + right} <= numbers.keys()
    assert sorted(numbers.values()) == list(range(len(numbers)))
    # CLIP's text model takes the first end, and old releases of it the largest number.
    assert (numbers[START], numbers[END]) == (len(numbers) - 2, len(numbers) - 1)


def test_a_comma_is_a_token_wherever_it_stands(tokenizer):
    expected = ["a</w>", "red</w>", "bear</w>", ",</w>", "side</w>", "view</w>"]
    for text in ("a red bear, side view", "a red bear ,side view", "A RED bear,  side\tview"):
        assert words_of(tokenizer, text) == expected


def test_the_source_prompt_of_the_bridge_comes_back_whole(tokenizer):
    prompt = Caption("bear", "red", "side", CORRUPTION_WORDS).text()
    (row,) = token_rows(tokenizer, [prompt])
    assert tokenizer.decode(row, skip_special_tokens=True).replace(" ,", ",") == prompt


def test_the_longest_caption_fits_the_window(tokenizer):
    longest = Caption("penguin", "purple", "overhead", WORDS).text()
    assert set(WORDS) >= {*CORRUPTION_WORDS, *QUALITY_WORDS}
    assert 40 < len(words_of(tokenizer, longest)) <= WINDOW - 2


def test_rows_are_what_transformers_itself_makes_of_texts(tokenizer):
    texts = ["", *sample_labels(200, torch.Generator().manual_seed(0)).captions]
    theirs = tokenizer(
        texts, padding="max_length", max_length=WINDOW, truncation=True, return_tensors="pt"
    ).input_ids
    assert torch.equal(token_rows(tokenizer, texts), theirs)


def test_a_word_outside_of_the_grammar_is_never_taken_for_one_in_it(tokenizer):
    known = {word + "</w>" for word in vocabulary()}
    for word in ("fox", "bears", "ear", "mugs", "reds"):
        assert not known & set(words_of(tokenizer, word))


def test_a_saved_tokenizer_reads_as_the_new_one(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    text = Caption("bus", "grey", "back", WORDS).text()
    assert torch.equal(token_rows(again, [text, ""]), token_rows(tokenizer, [text, ""]))
    assert again.model_max_length == WINDOW
