"""The grammar of the world's captions: what a prompt may say.

    [a COLOUR KIND][, VIEW][, WORD]...      or      VIEW of a COLOUR KIND[, WORD]...

The parts behind the object come in any order. The empty text is the unconditional caption, and
words alone, as in a negative prompt, are one too.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from sd_core.errors import ConfigError, nearest
from sd_toybox.world.kinds import COLOURS, KINDS

# No picture is taken from overhead. The words are there because sd_core's prompts use them.
View = Literal["front", "side", "back", "overhead"]
VIEWS: tuple[View, ...] = get_args(View)

# The descriptors of the source prompt of the bridge method, in its order (McAllister et al. 2024,
# Rethinking Score Distillation as a Bridge Between Image Distributions).
CORRUPTION_WORDS = (
    "oversaturated",
    "smooth",
    "pixelated",
    "cartoon",
    "foggy",
    "hazy",
    "blurry",
    "bad structure",
    "noisy",
    "malformed",
)
PAINTING = "painting"
QUALITY_WORDS = ("detailed", "high resolution", "detailed high resolution", "high quality", "sharp")
WORDS = (*QUALITY_WORDS, *CORRUPTION_WORDS, PAINTING)

GRAMMAR = (
    "The toybox reads: a COLOUR KIND[, VIEW][, WORD]... such as 'a red bear, side view, sharp'. "
    f"COLOUR: {', '.join(COLOURS)}. KIND: {', '.join(KINDS)}. "
    f"VIEW: {', '.join(f'{view} view' for view in VIEWS)}. WORD: {', '.join(WORDS)}."
)

_VIEW_TEXTS: dict[str, View] = {f"{view} view": view for view in VIEWS}
_OBJECT_TEXTS = {f"a {colour} {kind}": (kind, colour) for kind in KINDS for colour in COLOURS}
_KNOWN = (*_OBJECT_TEXTS, *_VIEW_TEXTS, *WORDS)


@dataclass(frozen=True)
class Caption:
    """What a caption says; None and no words where it says nothing."""

    kind: str | None = None
    colour: str | None = None
    view: View | None = None
    words: tuple[str, ...] = ()

    def parts(self) -> list[str]:
        """What stands between the commas: the object, its words, the view last."""
        named = [f"a {self.colour} {self.kind}"] if self.kind else []
        return [*named, *self.words, *([f"{self.view} view"] if self.view else [])]

    def text(self) -> str:
        """The caption in the order of `sd_core.prompts`: "a red bear, blurry, side view"."""
        return ", ".join(self.parts())


def parse_caption(text: str) -> Caption:
    """What a text says. Capitals and spaces around commas do not matter."""
    plain = re.sub(r"\s+", " ", text.lower()).strip()
    if not plain:
        return Caption()
    parts = [part.strip() for part in plain.split(",")]
    in_front, of, behind = parts[0].partition(" of ")
    if of and in_front in _VIEW_TEXTS:
        parts = [behind, *parts[1:], in_front]
    found = Caption()
    for place, part in enumerate(parts):
        found = _with_part(found, part, place, text)
    return found


def vocabulary() -> tuple[str, ...]:
    """Every word and sign of the grammar, once and in order, for a tokenizer."""
    every = [",", "a", "of", *COLOURS, *KINDS]
    every += [word for part in (*_VIEW_TEXTS, *WORDS) for word in part.split()]
    return tuple(dict.fromkeys(every))


def _with_part(found: Caption, part: str, place: int, text: str) -> Caption:
    """The caption so far, and what one more part says."""
    kind, colour, view, words = found.kind, found.colour, found.view, found.words
    if part in _OBJECT_TEXTS and place == 0:
        kind, colour = _OBJECT_TEXTS[part]
    elif part in _VIEW_TEXTS:
        if view not in (None, _VIEW_TEXTS[part]):
            raise ConfigError(
                f"'{text}' is seen from two sides, {view} and {_VIEW_TEXTS[part]}: leave one out."
            )
        view = _VIEW_TEXTS[part]
    elif part in WORDS:
        words = words if part in words else (*words, part)
    else:
        raise ConfigError(_not_understood(part, text))
    return Caption(kind, colour, view, words)


def _not_understood(part: str, text: str) -> str:
    if part in _OBJECT_TEXTS:
        return f"the object comes first and alone, but '{text}' has '{part}' further on. {GRAMMAR}"
    # As it was typed: line breaks would tear the message apart.
    shown = " ".join(text.split())
    return f"'{part}' in '{shown}' is not in the toybox.{nearest(part, _KNOWN)} {GRAMMAR}"
