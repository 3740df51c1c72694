"""Faces too many, counted by a person: the metric `janus-score`.

    R = (n_g - m_g) + ½·(n_l - m_l)

RecDreamer (Zheng et al. 2025), appendix C.7: n_g global features (faces, bodies) were counted and
m_g expected, n_l and m_l local ones (legs, arms, tails). 0 is right.

The counts are a file that a person writes, .csv or .json, one row for each object:

    prompt,run,global,global_expected,local,local_expected
    a bear,bear-seed-1,2,1,4,4

A JSON file is a list of tables with the same keys.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sd_core.cameras import CameraBatch
from sd_core.config import Options, option
from sd_core.errors import ConfigError
from sd_core.metric import AbstractMetric, MetricContext
from sd_core.shapes import Images

_NUMBERS = ("global", "global_expected", "local", "local_expected")
_KEYS = ("prompt", "run", *_NUMBERS)


@dataclass(frozen=True)
class Features:
    """How many there are of each kind: global are faces and bodies, local legs, arms, tails."""

    whole: int
    local: int


@dataclass(frozen=True)
class CountedObject:
    """A row of the file."""

    prompt: str
    run: str
    counted: Features
    expected: Features


class JanusOptions(Options):
    """What a person counted."""

    counts: str | None = option(
        None,
        "A file, .csv or .json, with a row for each object: prompt, run (its name in the table), "
        "global, global_expected, local, local_expected.",
        min_length=1,
    )


def janus_score(counted: Features, expected: Features) -> float:
    """R = (n_g - m_g) + ½·(n_l - m_l); below 0 where features are missing."""
    return (counted.whole - expected.whole) + 0.5 * (counted.local - expected.local)


def read_counts(path: str) -> tuple[CountedObject, ...]:
    """Every row of a file of counts, checked."""
    rows = tuple(_row(path, *item) for item in enumerate(_tables(path), start=1))
    if not rows:
        raise ConfigError(f"janus-score.counts '{path}' has no row. Write one for each object.")
    twice = [key for key, n in Counter((each.prompt, each.run) for each in rows).items() if n > 1]
    if twice:
        raise ConfigError(
            f"janus-score.counts '{path}' has two rows for the run '{twice[0][1]}' of "
            f"'{twice[0][0]}'. Remove one."
        )
    return rows


class JanusScore(AbstractMetric):
    """janus-score    of the object that the table calls as the file's row does; 0 is right"""

    def __init__(self, options: JanusOptions, context: MetricContext) -> None:
        if options.counts is None:
            raise ConfigError(
                "janus-score.counts names no file, and a person counts the faces. Name a .csv or "
                f".json file with {', '.join(_KEYS)} of each object: "
                "--set janus-score.counts=FILE."
            )
        self._path = options.counts
        self._rows = {(row.prompt, row.run): row for row in read_counts(options.counts)}
        self._sha256 = hashlib.sha256(Path(options.counts).expanduser().read_bytes()).hexdigest()
        self.reset()

    def reset(self) -> None:
        self._prompt: str | None = None
        self._score: float | None = None

    def update(self, images: Images, prompt: str, cameras: CameraBatch | None) -> None:
        self._prompt = prompt

    def end_object(self, name: str) -> None:
        row = self._rows.get((self._prompt or "", name))
        if row is None:
            raise ConfigError(
                f"janus-score.counts '{self._path}' has no row for the run '{name}' of "
                f"'{self._prompt}'. Count its faces and add one."
            )
        self._score = janus_score(row.counted, row.expected)

    def compute(self) -> dict[str, float]:
        if self._score is None:
            raise ConfigError("there is no object yet. Update the metric before it computes.")
        return {"janus-score": self._score}

    def recipe(self) -> dict[str, Any]:
        return {
            "counted_by": "a person",
            "counts_sha256": self._sha256[:16],
        }


def _tables(path: str) -> list[Any]:
    """The rows as they are written, by the file's suffix."""
    file, suffix = Path(path).expanduser(), Path(path).suffix.lower()
    try:
        if suffix == ".csv":
            with file.open(encoding="utf-8-sig", newline="") as opened:
                return list(csv.DictReader(opened))
        if suffix == ".json":
            content = json.loads(file.read_text("utf-8-sig"))
            if isinstance(content, list):
                return content
            raise ValueError("it holds no list of tables")
        reason = "its name ends in neither .csv nor .json"
    except (OSError, ValueError, csv.Error) as error:
        reason = " ".join(str(error).split())
    raise ConfigError(
        f"cannot read janus-score.counts '{path}': {reason}. Name a .csv or .json file with "
        f"{', '.join(_KEYS)} of each object."
    )


def _row(path: str, number: int, table: Any) -> CountedObject:
    if not isinstance(table, Mapping) or not all(_is_told(table.get(key)) for key in _KEYS):
        raise ConfigError(
            f"row {number} of janus-score.counts '{path}' is not whole, expected "
            f"{', '.join(_KEYS)}. Fill it in."
        )
    whole, whole_expected, local, local_expected = (
        _number(path, number, key, table[key]) for key in _NUMBERS
    )
    return CountedObject(
        prompt=str(table["prompt"]).strip(),
        run=str(table["run"]).strip(),
        counted=Features(whole, local),
        expected=Features(whole_expected, local_expected),
    )


def _is_told(value: object) -> bool:
    return value is not None and str(value).strip() != ""


def _number(path: str, row: int, key: str, value: object) -> int:
    """A count: 0, 1, 2, and so on."""
    text = str(value).strip()
    if not (text.isascii() and text.isdecimal()):
        raise ConfigError(
            f"row {row} of janus-score.counts '{path}' has {value!r} for {key}, expected a number "
            "such as 0 or 2. Mend it."
        )
    return int(text)
