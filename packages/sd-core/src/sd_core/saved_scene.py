"""A run's scene brought back as it was saved: to go on from it, or to look at it, prior or not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sd_core.building import build_scene
from sd_core.checkpoint import list_checkpoints, load_checkpoint, place_of
from sd_core.errors import CheckpointError, ConfigError
from sd_core.experiment import Experiment
from sd_core.renderer import AbstractRenderer
from sd_core.run_folder import RunFolder
from sd_core.shapes import Images, Latents


@dataclass(frozen=True, eq=False)
class SavedScene:
    """A scene as it was after `steps_done` steps of its stage."""

    renderer: AbstractRenderer
    stage: int
    steps_done: int


@dataclass(frozen=True)
class _AbsentPrior:
    """What a scene must know of the prior, from what was saved with it."""

    latent_shape: tuple[int, int, int]
    device: torch.device

    @property
    def encode(self) -> Callable[[Images], Latents]:
        # What a scene makes of it is replaced by its saved state.
        return lambda images: images.new_zeros(len(images), *self.latent_shape)


def load_scene(
    folder: RunFolder, experiment: Experiment, *, device: torch.device, stage: int | None = None
) -> SavedScene:
    """The scene at the end of a stage; by default the newest that was saved, of any step."""
    last = len(experiment.stages) - 1
    if stage is not None and not 0 <= stage <= last:
        raise ConfigError(f"{folder.path} has no stage {stage}, its stages are 0 to {last}.")
    finished = [index for index in range(last + 1) if _is_saved(folder, index)]
    if stage is not None and stage not in finished:
        raise CheckpointError(
            f"stage {stage} of {folder.path} is not finished. Go on with: score-distill resume "
            f"{folder.path}, or leave --stage out to take the scene as it is now."
        )
    here, steps_done, state = _newest(folder, finished) if stage is None else _end(folder, stage)
    outline = _AbsentPrior(tuple(state["latent_shape"]), device)
    renderer: AbstractRenderer | None = None
    for index in range(here + 1):
        renderer = build_scene(experiment, index, outline, renderer, restored=True).renderer
        saved = state if index == here else finished_scene(folder, index)
        load_state(renderer, saved["scene"], "scene")
    assert renderer is not None  # a stage number is at least 0
    return SavedScene(renderer.eval(), here, steps_done)


def finished_scene(folder: RunFolder, stage: int) -> dict[str, Any]:
    """What was saved at the end of a stage."""
    return _end(folder, stage)[2]


def load_state(module: nn.Module, state: dict[str, Any], what: str) -> None:
    """Load, or say that the code is no longer what it was."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint's {what} does not fit {type(module).__name__}: "
            f"{str(error).splitlines()[-1].strip()} Was a plugin updated since?"
        ) from None


def start_again(folder: RunFolder) -> str:
    """The remedy where nothing in the folder can be gone on from."""
    return (
        "Start again in another folder: "
        f"score-distill run {folder.path / 'config.json'} --output NEW."
    )


def _newest(
    folder: RunFolder, finished: list[int], *, look_again: bool = True
) -> tuple[int, int, dict[str, Any]]:
    """The scene alone, where a stage has just ended; else the newest checkpoint's."""
    found = list_checkpoints(folder.checkpoints)
    ends = list_checkpoints(folder.scenes(finished[-1])) if finished else []
    # The checkpoint at the end of a stage has the same scene, and far more beside it.
    if ends and (not found or place_of(ends[-1]) == place_of(found[-1])):
        return _end(folder, finished[-1])
    if not found:
        raise CheckpointError(
            f"{folder.path} holds no scene yet. Go on with: score-distill resume {folder.path}."
        )
    remedy = start_again(folder) if len(found) < 2 else f"See score-distill resume {folder.path}."
    try:
        label, state = load_checkpoint(found[-1], experiment=folder.fingerprint, if_damaged=remedy)
    except CheckpointError:
        if found[-1].exists() or not look_again:
            raise
        # Not damaged: the run goes on meanwhile, and has dropped it for newer ones.
        return _newest(folder, finished, look_again=False)
    return label.stage, label.steps_done, state


def _end(folder: RunFolder, stage: int) -> tuple[int, int, dict[str, Any]]:
    found = list_checkpoints(folder.scenes(stage))
    if not found:
        raise CheckpointError(
            f"{folder.path} lacks the finished scene of stage {stage}. {start_again(folder)}"
        )
    # Not --previous: unless it is of an earlier stage, the one before needs this scene as well.
    label, state = load_checkpoint(
        found[-1], experiment=folder.fingerprint, if_damaged=start_again(folder)
    )
    return stage, label.steps_done, state


def _is_saved(folder: RunFolder, stage: int) -> bool:
    return bool(list_checkpoints(folder.scenes(stage)))
