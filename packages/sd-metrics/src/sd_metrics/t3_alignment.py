"""Whether views of an object show what the prompt says: the metric `t3-alignment`.

T3Bench (He et al. 2023, arXiv 2310.02977), as its run_caption.py and run_eval_alignment.py have it:
captions of the views from the 12 corners of an icosahedron (BLIP-2, sampled), made into one by a
language model (GPT-4), which another call then rates from 1 to 5: how well does it cover what the
prompt says? More than the prompt says does no harm. The papers' tables have 25·(rating - 1), 0 to
100: their numbers are multiples of 1/4 for 100 prompts, and some are below 20.

Here a `judge` that the user names is given the prompt and all captions, and its rating is put on
that scale. Without one the number is the captions' recall of the prompt's words:

    recall = 100·|W(prompt) ∩ ∪_v W(caption v)|/|W(prompt)|,   W(text) the set of `content_words`

which knows no synonyms, and takes every word for as important as any other.
"""

import math
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, ClassVar, Final

from sd_core.cameras import CameraBatch, icosphere_cameras
from sd_core.config import Options, option, shown
from sd_core.encoders.pretrained import one_line
from sd_core.errors import ConfigError
from sd_core.metric import AbstractMetric, MetricContext
from sd_core.shapes import Images
from sd_metrics.captioner import build_captioner
from sd_metrics.per_view import check_pictures

# Words that say nothing of what is to be seen.
STOP_WORDS: Final = frozenset(
    re.findall(
        r"\w+",
        "a an the this that these those some any its his her their my your our it he she they "
        "is are was were be been being has have had do does did of in on at to from by with "
        "without for into onto over under up down out off as and or but not no so than then "
        "there here very",
    )
)

_IMPORT_STRING = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

# Called with the prompt and the captions of all views; gives 1 (nothing of it) to 5 (all of it).
Judge = Callable[[str, list[str]], float]


class T3AlignmentOptions(Options):
    """Who writes the captions, and who compares them with the prompt."""

    captioner: str | None = option(
        None,
        "A BLIP that writes captions, a folder or an id of the hub; by default what suits the "
        "prior, which may be its CLIP that chooses among its texts.",
        min_length=1,
    )
    judge: str | None = option(
        None,
        "Who rates, as 'package.module:name': called with (prompt, captions), it gives 1 to 5. By "
        "default it is counted how many of the prompt's words are in some caption.",
        min_length=1,
    )
    subdivision: int = option(
        0, "Views from the 12, 42 or 162 vertices of an icosphere (T3Bench: 0).", ge=0, le=2
    )


class T3Alignment(AbstractMetric):
    """t3-alignment           0 to 100, by a judge's rating; see the module
    t3-alignment-recall    0 to 100, by the captions' recall of the prompt, where there is no judge

    Takes any views of one object, with known cameras or not; it wants those of an icosphere.
    """

    higher_is_better: ClassVar[bool | None] = True

    def __init__(self, options: T3AlignmentOptions, context: MetricContext) -> None:
        self._options, encoders = options, context.encoders
        self._judge = None if options.judge is None else load_judge(options.judge)
        self._captioner = build_captioner(
            options.captioner or encoders.captioner,
            clip=encoders.clip,
            texts=encoders.classes,
            device=context.device,
        )
        self.reset()

    def reset(self) -> None:
        self._prompt: str | None = None
        self._captions: list[str] = []

    def update(self, images: Images, prompt: str, cameras: CameraBatch | None) -> None:
        if self._prompt not in (None, prompt):
            raise ConfigError(
                f"the views are of '{self._prompt}' and of '{prompt}', expected one object. "
                "Reset the metric between two."
            )
        check_pictures(images)
        self._captions += self._captioner.captions(images)
        self._prompt = prompt

    def compute(self) -> dict[str, float]:
        if self._prompt is None:
            raise ConfigError(
                "there is no view of an object yet. Update the metric before it computes."
            )
        if self._judge is None:
            return {"t3-alignment-recall": 100 * recall(self._prompt, self._captions)}
        return {"t3-alignment": scaled(self._rating(self._judge, self._prompt))}

    def wanted_cameras(self, *, distance: float, vertical_fov_deg: float) -> CameraBatch | None:
        return icosphere_cameras(
            self._options.subdivision, distance=distance, vertical_fov_deg=vertical_fov_deg
        )

    def recipe(self) -> dict[str, Any]:
        judge = self._options.judge
        return {
            **self._captioner.recipe(),
            "judge": judge,
            "scale": "100·recall of words" if judge is None else "25·(rating - 1)",
        }

    def _rating(self, judge: Judge, prompt: str) -> float:
        name = self._options.judge
        try:
            rating = judge(prompt, list(self._captions))
        except Exception as error:
            raise ConfigError(
                f"the judge '{name}' failed: {type(error).__name__}: {one_line(error)}. Mend it, "
                "or leave judge out."
            ) from error
        is_number = isinstance(rating, (int, float)) and not isinstance(rating, bool)
        if not (is_number and math.isfinite(rating) and 1 <= rating <= 5):
            raise ConfigError(
                f"the judge '{name}' gave {shown(rating)}, expected a number from 1 to 5. Mend it, "
                "or leave judge out."
            )
        return float(rating)


def scaled(rating: float) -> float:
    """25·(rating - 1): T3Bench's 1 to 5 are 0 to 100."""
    return 25 * (rating - 1)


def recall(prompt: str, captions: Sequence[str]) -> float:
    """The share of the prompt's content words that are in at least one of the captions."""
    wanted = content_words(prompt)
    if not wanted:
        raise ConfigError(
            f"the prompt '{prompt}' has no word that a picture could show, so nothing can be "
            "recalled. Name a judge, or evaluate another object."
        )
    said = frozenset[str]().union(*map(content_words, captions))
    return len(wanted & said) / len(wanted)


def content_words(text: str) -> frozenset[str]:
    """Lower-cased, without possessive 's, split at all but letters and digits, without
    `STOP_WORDS`, in the singular as `singular` guesses it.
    """
    plain = re.sub(r"['’]s\b", "", text.lower())
    words = re.findall(r"[^\W_]+", plain)
    return frozenset(singular(word) for word in words if word not in STOP_WORDS)


def singular(word: str) -> str:
    """Crude, but the same for prompts and captions: a last -es goes after ss, x, zz, ch and sh; any
    other last -s goes, but not of -ss, -us and -is; then -ie is -y (berries and berry, cookies and
    cookie). Words of three letters or fewer stay.
    """
    if len(word) > 3:
        word = re.sub(r"(ss|x|zz|ch|sh)es$", r"\1", word)
    if len(word) > 3 and not word.endswith(("ss", "us", "is")):
        word = word.removesuffix("s")
    return re.sub(r"ie$", "y", word) if len(word) > 3 else word


def load_judge(name: str) -> Judge:
    """The callable that an import string "package.module:name" names."""
    module, _, attribute = name.partition(":")
    if not _IMPORT_STRING.fullmatch(name):
        raise ConfigError(
            f"judge is '{name}', expected the form 'package.module:name'. Name a function that "
            "is called with the prompt and the captions."
        )
    try:
        judge = getattr(import_module(module), attribute)
    except Exception as error:
        raise ConfigError(
            f"the judge '{name}' cannot be imported: {type(error).__name__}: {one_line(error)}. "
            "Is it installed, or its folder on PYTHONPATH?"
        ) from error
    if not callable(judge):
        raise ConfigError(
            f"the judge '{name}' is {shown(judge)}, expected a function of the prompt and the "
            "captions. Name one."
        )
    found: Judge = judge
    return found
