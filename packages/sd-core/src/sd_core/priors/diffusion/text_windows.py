"""Prompts longer than a text encoder's window: read in several windows, and joined.

A window of CLIP is 77 tokens: a start, at most 75 of the prompt, an end, padding.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from sd_core.errors import ConfigError

LongPrompts = Literal["windows", "refuse"]
TEXT = "text"  # the tensor of a condition that has one row for each token


def token_windows(
    tokenizer: Any, prompt: str, long_prompts: LongPrompts
) -> Int[Tensor, "windows tokens"]:
    """The prompt's tokens, each window with its own start, end and padding."""
    size = tokenizer.model_max_length - 2
    # `verbose` off: the library warns of a length that we look after ourselves.
    ids = tokenizer(prompt, add_special_tokens=False, truncation=False, verbose=False).input_ids
    if len(ids) > size and long_prompts == "refuse":
        raise ConfigError(
            f"the prompt '{prompt}' has {len(ids)} tokens, but the text encoder reads {size} at "
            'a time. Shorten it, or set prior.long_prompts = "windows".'
        )
    starts = range(0, max(len(ids), 1), size)
    return torch.tensor([_framed(tokenizer, ids[start : start + size], size) for start in starts])


def aligned(rows: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Each row's text repeated to the least common multiple of their lengths.

    Attention averages over the tokens with weights that sum to one, so a text that is there k
    times attends exactly as it does once: repeating changes no prediction, as padding would.
    """
    length = math.lcm(*(row[TEXT].shape[1] for row in rows))
    return [
        {**row, TEXT: row[TEXT].repeat(1, length // row[TEXT].shape[1], 1)}
        if row[TEXT].shape[1] != length
        else dict(row)
        for row in rows
    ]


def _framed(tokenizer: Any, ids: list[int], size: int) -> list[int]:
    padding = [tokenizer.pad_token_id] * (size - len(ids))
    return [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *padding]
