"""A CLIP tokenizer for which every word of the grammar is one token.

CLIP's byte-pair encoding begins with letters, the last of which carries `</w>`, and joins pairs in
the order of `merges.txt`. The merges here join a letter with an ending, and nothing else:

    bear: b e a r</w> → b e ar</w> → b ear</w> → bear</w>

So in any word there is at most one pair that can be joined, the last one, and no merge of one word
gets into another's way. The endings are tokens as well; a word of the grammar never stops at one.
"""

import json
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sd_core.priors.diffusion.text_windows import token_windows
from sd_toybox.world.captions import vocabulary

START, END = "<|startoftext|>", "<|endoftext|>"

# A caption that says everything the grammar has, once, has 43 words and commas, and 2 tokens frame
# it. CLIP's own 77 would make each cross attention 1.6 times as long for nothing.
WINDOW = 48

Tokens = Int[Tensor, "texts tokens"]

_LAST = "</w>"


def new_tokenizer(words: Sequence[str] = vocabulary()) -> Any:
    """Transformers' `CLIPTokenizer` of these words. As in CLIP, texts are filled up with END."""
    transformers: Any = import_module("transformers")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": WINDOW,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
    }
    with TemporaryDirectory() as folder:
        # Read from files: the constructor changed in transformers 5.
        (Path(folder) / "vocab.json").write_text(json.dumps(token_numbers(words)), "utf-8")
        merges = "\n".join(["#version: 0.2", *merges_of(words)]) + "\n"
        (Path(folder) / "merges.txt").write_text(merges, "utf-8")
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
        return transformers.CLIPTokenizer.from_pretrained(folder)


def merges_of(words: Sequence[str]) -> list[str]:
    """Every join of a letter and the ending behind it, the shortest endings first."""
    joins = {
        (len(word) - place, word[place], word[place + 1 :] + _LAST)
        for word in words
        for place in range(len(word) - 1)
    }
    return [f"{letter} {ending}" for _, letter, ending in sorted(joins)]


def token_numbers(words: Sequence[str]) -> dict[str, int]:
    """Letters, letters that end a word, what the merges make, START, and END as the last."""
    letters = sorted({letter for word in words for letter in word})
    joined = [join.replace(" ", "") for join in merges_of(words)]
    tokens = [*letters, *(letter + _LAST for letter in letters), *joined, START, END]
    return {token: number for number, token in enumerate(tokens)}


def token_rows(tokenizer: Any, texts: Sequence[str]) -> Tokens:
    """Each text in a row of WINDOW numbers, framed and filled up as the prior does it."""

    @cache
    def row(text: str) -> Tensor:
        return token_windows(tokenizer, text, "refuse")[0]

    return torch.stack([row(text) for text in texts])
