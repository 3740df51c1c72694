"""What an experiment file may say, and how a file, `--set` and the short options become one table.

Tables that choose a plugin (`prior`, `guidance`, `renderer`) hold its `name` and that plugin's own
options; those are checked in `experiment.py`, where the plugins are known.
"""

import json
import tomllib
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from sd_core.config import Options, option
from sd_core.errors import ConfigError, nearest
from sd_core.prompts import PromptOptions

Table = dict[str, Any]

# `--set guidance.scale=7.5` means every stage's.
STAGE_KEYS = ("guidance", "renderer", "optimiser", "cameras", "steps")

# What a bare text means where one of these tables stands.
_BARE_TEXT_IS = {
    "prompt": "text",
    "prior": "name",
    "guidance": "name",
    "renderer": "name",
    "scene": "name",
}

_Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimiserOptions(Options):
    """The scene's optimiser. Defaults are those of the NeRF codes of this field."""

    name: Literal["adam", "adamw", "sgd"] = option("adam", "Which optimiser.")
    learning_rate: float = option(0.01, "Step size.", gt=0)
    betas: tuple[_Beta, _Beta] = option((0.9, 0.99), "Adam's decay rates.", symbol="β1, β2")
    eps: float = option(1e-15, "Adam's denominator floor.", gt=0)
    weight_decay: float = option(0.0, "Decay of the parameters.", ge=0)
    warm_up_steps: int = option(
        0, "Steps over which the step size grows in a straight line to its value.", ge=0
    )
    decay: Literal["none", "cosine"] = option(
        "none", "cosine: after that the step size falls towards 0 along a half cosine."
    )


class StageOptions(Options):
    """One stage: a scene, a method, a number of steps."""

    steps: int = option(1000, "Optimisation steps.", ge=1)
    start_from: Literal["previous", "scratch"] = option(
        "previous", "Whether the scene starts from the scene of the stage before."
    )
    guidance: Table = Field(
        default_factory=lambda: {"name": "sds"}, description="The method: name and its options."
    )
    renderer: Table | None = option(
        None, "The scene: name and its options. Left out: the stage before goes on with its scene."
    )
    optimiser: OptimiserOptions = option(OptimiserOptions(), "How the scene moves.")
    cameras: Table = Field(
        default_factory=dict, description="Camera options, over the renderer's own defaults."
    )

    @field_validator("guidance", "renderer", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class RunOptions(Options):
    """How a run is watched and kept. None of this changes the result."""

    device: str = option("auto", "torch device; auto takes CUDA where there is one.", min_length=1)
    threads: int = option(0, "CPU threads of torch; 0 leaves torch's own choice.", ge=0)
    checkpoint_every: int = option(100, "Steps between checkpoints.", ge=1)
    preview_every: int = option(100, "Steps between preview pictures; 0 for none.", ge=0)
    turntable_frames: int = option(48, "Frames of the final turntable; 0 for none.", ge=0)
    tensorboard: bool = option(False, "Also write TensorBoard event files.")


class ExperimentOptions(Options):
    """A whole experiment, as an experiment file says it."""

    prompt: PromptOptions = option(..., "What to make: a text, or a table with view words.")
    seed: int = option(0, "Seed of every random draw.", ge=0)
    prior: Table = Field(
        default_factory=dict,
        description="The frozen model: name and its options. Left out: the toybox if installed.",
    )
    stages: tuple[StageOptions, ...] = option(
        (StageOptions(),), "The stages, one after the other.", min_length=1
    )
    run: RunOptions = option(RunOptions(), "How the run is watched and kept.")

    @field_validator("prompt", mode="before")
    @classmethod
    def _text_alone(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value

    @field_validator("prior", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


def read_experiment_file(path: Path) -> Table:
    """A TOML experiment, or the `config.json` of a run folder."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the experiment file {path}: {error}.") from None
    try:
        if path.suffix == ".json":
            table = json.loads(text)
            table = table.get("experiment", table) if isinstance(table, dict) else table
            if not isinstance(table, dict):
                raise ValueError("it holds no table of options")
            return table
        return tomllib.loads(text)
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigError(f"{path} is not valid {kind}: {error}.") from None


def options_table(
    assignments: Sequence[str], *, flag: str = "--set", such_as: str = "faces=5000"
) -> Table:
    """`--set faces=5000` and its like, where there is one table of options alone."""
    table: Table = {}
    for assignment in assignments:
        keys, text = _key_and_value(assignment, flag=flag, such_as=such_as)
        _assign(table, keys, _value(text), f"{flag} {assignment}")
    return table


def _key_and_value(assignment: str, *, flag: str, such_as: str) -> tuple[list[str], str]:
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"{flag} {assignment} is not an assignment. Write {flag} {such_as}.")
    return keys, text


def override(table: Table, assignments: Sequence[str]) -> Table:
    """`stages.0.guidance.scale=7.5` and its like, applied in order to a copy of the table."""
    table = deepcopy(table)
    for assignment in assignments:
        keys, text = _key_and_value(assignment, flag="--set", such_as="stages.0.guidance.scale=7.5")
        told = f"--set {assignment}"
        known = sorted({*STAGE_KEYS, *ExperimentOptions.model_fields})
        if keys[0] not in known:
            raise ConfigError(
                f"{told}: unknown key '{keys[0]}'. Known keys: {', '.join(known)}."
                f"{nearest(keys[0], known)}"
            )
        if keys[0] in STAGE_KEYS:
            for index, stage in enumerate(_stages(table)):
                if keys[0] != "renderer" or not _goes_on(index, stage):
                    _assign(table, ["stages", str(index), *keys], _value(text), told)
        else:
            _assign(table, keys, _value(text), told)
    return table


def choose(table: Table, kind: str, name: str) -> Table:
    """Another method or renderer in every stage, or another prior; options of the same stay."""
    table = deepcopy(table)
    for index, owner in enumerate([table] if kind == "prior" else _stages(table)):
        told = owner.get(kind)
        same = isinstance(told, dict) and told.get("name") == name
        if not same and not (kind == "renderer" and _goes_on(index, owner)):
            owner[kind] = {"name": name}
    return table


def _stages(table: Table) -> list[Table]:
    stages = table.setdefault("stages", [{}])
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise ConfigError("stages is not a list of tables. Write each stage under [[stages]].")
    return stages


def _goes_on(index: int, stage: Table) -> bool:
    """Whether this stage has no scene of its own: giving it a renderer would begin a new one."""
    return index > 0 and not stage.get("renderer") and stage.get("start_from") != "scratch"


def _assign(table: Table, keys: list[str], value: Any, told: str) -> None:
    """`told` is the flag and what it says, for messages."""
    if keys[0] == "stages":
        _stages(table)
    place: Any = table
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(place, list):
            if not key.isdigit() or int(key) >= len(place):
                raise ConfigError(
                    f"{told}: there is no {'.'.join(keys[:depth])}.{key}. "
                    f"Give a number from 0 to {len(place) - 1}."
                )
            if last:
                place[int(key)] = value
            place = place[int(key)]
        elif not isinstance(place, dict):
            raise ConfigError(f"{told}: {'.'.join(keys[:depth])} is a value, not a table.")
        elif last:
            place[key] = value
        else:
            if key in _BARE_TEXT_IS and isinstance(place.get(key), str):
                place[key] = {_BARE_TEXT_IS[key]: place[key]}
            if place.get(key) is None:  # not there, or the null of a config.json
                place[key] = {}
            place = place[key]


def _value(text: str) -> Any:
    """A TOML value where it is one (7.5, true, [1, 2], "x"), else the bare text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
