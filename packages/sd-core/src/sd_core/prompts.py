"""The prompt, the words that say from where the object is seen, and folder names made of prompts.

No torch here: options are read and checked before anything heavy loads.
"""

import hashlib
import math
import re
import unicodedata
from typing import TYPE_CHECKING, Literal

from pydantic import field_validator, model_validator

from sd_core.config import Options, option

if TYPE_CHECKING:
    import sd_core.cameras

View = Literal["front", "side", "back", "overhead"]

_CONTROL = ("Cc", "Zl", "Zp")  # Unicode's control characters, line and paragraph separators
_RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)\d")  # device names on Windows
_HASH_DIGITS = 8


class PromptOptions(Options):
    """What to make, and how the prompt says from where it is seen."""

    text: str = option(..., "What to make, such as: a red bear.")
    negative: str = option("", "What to keep away from, the same for all views.")
    views: Literal["suffix", "prefix", "none"] = option(
        "suffix", "'a bear, side view', 'side view of a bear', or the plain prompt for all cameras."
    )
    front_threshold_deg: float = option(
        45.0, "Front: closer than this to azimuth 0 (ProlificDreamer: 30).", ge=0.0, le=180.0
    )
    back_threshold_deg: float = option(
        45.0, "Back: closer than this to azimuth 180 (ProlificDreamer: 30).", ge=0.0, le=180.0
    )
    overhead_threshold_deg: float = option(
        60.0, "Overhead: higher than this; never seen by cameras up to 45.", ge=-90.0, le=90.0
    )
    perp_neg: bool = option(
        False,
        "Perp-Neg: between two views their texts are blended by azimuth, and each is pushed away "
        "from what it does not show. Two more evaluations of the network for each prediction.",
    )
    front_words: str = option("front view", "What a front view is called.")
    side_words: str = option("side view", "What a side view is called.")
    back_words: str = option("back view", "What a back view is called.")
    overhead_words: str = option("overhead view", "What a view from above is called.")

    @field_validator(
        "text", "negative", "front_words", "side_words", "back_words", "overhead_words"
    )
    @classmethod
    def _on_one_line(cls, value: str) -> str:
        value = value.strip()
        for place, character in enumerate(value):
            if unicodedata.category(character) in _CONTROL:
                raise ValueError(
                    f"the text holds a control character (U+{ord(character):04X}) "
                    f"after {value[:place][-20:]!r}: write it on one line, in visible characters"
                )
        return value

    @field_validator("text")
    @classmethod
    def _says_what(cls, value: str) -> str:
        if not value:
            raise ValueError('the prompt is empty: say what to make, for example "a red bear"')
        return value

    @field_validator("front_words", "side_words", "back_words", "overhead_words")
    @classmethod
    def _says_from_where(cls, value: str) -> str:
        if not value:
            raise ValueError(
                'the words for a view are empty: name it, for example "side view", '
                'or set views = "none" for the plain prompt'
            )
        return value

    @model_validator(mode="after")
    def _perp_neg_has_views(self) -> "PromptOptions":
        if self.perp_neg and self.views == "none":
            raise ValueError(
                "perp_neg is true, but views is none: there are no texts to blend. Set views to "
                "suffix or prefix, or perp_neg to false"
            )
        return self


def view_of(azimuth: float, elevation: float, options: PromptOptions) -> View:
    """What a camera at these angles (radians) sees. A later line overrides an earlier one:

    side by default · front |a| < front threshold · back |a| > 180° - back threshold ·
    overhead e > overhead threshold, with a brought into [-180°, 180°]. Angles count to 0.001°, so
    that 45° kept in float32 lies on its threshold, on neither side of it.
    """
    turn = round(abs(math.degrees(math.remainder(azimuth, math.tau))), 3)
    if round(math.degrees(elevation), 3) > options.overhead_threshold_deg:
        return "overhead"
    if turn > 180 - options.back_threshold_deg:
        return "back"
    return "front" if turn < options.front_threshold_deg else "side"


def view_text(options: PromptOptions, view: View) -> str:
    """The prompt for one kind of view: "{prompt}, side view", or as `options.views` says."""
    if options.views == "none":
        return options.text
    words = {
        "front": options.front_words,
        "side": options.side_words,
        "back": options.back_words,
        "overhead": options.overhead_words,
    }[view]
    return f"{options.text}, {words}" if options.views == "suffix" else f"{words} of {options.text}"


def view_texts(options: PromptOptions, cameras: "sd_core.cameras.CameraBatch") -> list[str]:
    """The prompt for each camera, from its labels: jitter does not change the words."""
    angles = zip(cameras.azimuth.tolist(), cameras.elevation.tolist(), strict=True)
    views = [view_of(azimuth, elevation, options) for azimuth, elevation in angles]
    return [view_text(options, view) for view in views]


def folder_name(text: str, limit: int = 60) -> str:
    """A safe folder name of at most `limit` characters: [a-z0-9-], and _hash where text was lost.

    "a red bear" is a-red-bear. A prompt that its slug does not give back (capitals, punctuation,
    other scripts, a cut, a name that Windows keeps for devices) ends in _ and the first 8 digits of
    its SHA-256. No slug has a _, so two prompts share a folder only if their hashes agree.
    """
    shortest = len("prompt_") + _HASH_DIGITS
    if limit < shortest:
        raise ValueError(f"a folder name needs room for {shortest} characters, not {limit}")
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    lossless = slug.replace("-", " ") == text and text != ""
    if lossless and len(slug) <= limit and not _RESERVED.fullmatch(slug):
        return slug
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
    head = slug[: limit - _HASH_DIGITS - 1].rstrip("-") or "prompt"
    return f"{head}_{digest}"
