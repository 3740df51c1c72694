"""Runs an experiment in a run folder: logs, previews, checkpoints, and going on after a stop."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sd_core.building import BuiltScene, BuiltStage, build_scene, complete_stage
from sd_core.camera_sampling import sample_cameras
from sd_core.cameras import sheet_cameras, turntable
from sd_core.checkpoint import (
    PREVIOUS,
    CheckpointLabel,
    drop_later,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from sd_core.distill import distill
from sd_core.errors import CheckpointError, NonFiniteGradientError
from sd_core.experiment import Experiment
from sd_core.pictures import contact_sheet, enlarge, save_png, save_video
from sd_core.prior import AbstractPrior
from sd_core.renderer import AbstractRenderer
from sd_core.run_folder import RunFolder
from sd_core.tensorboard import scalar_writer

SHEET_COLUMNS = 4


@dataclass(frozen=True)
class Progress:
    """One finished step of a run."""

    stage: int
    step: int
    steps: int
    logs: dict[str, float]


@dataclass
class Stop:
    """Set `requested` to let the run finish its step, save and return."""

    requested: bool = False


@dataclass(frozen=True)
class Start:
    """Where a run begins: at the start, or at a checkpoint."""

    stage: int = 0
    steps_done: int = 0
    state: dict[str, Any] | None = None


def find_start(folder: RunFolder, *, previous: bool = False) -> Start:
    """The newest checkpoint, or with `previous` the one before; the beginning if there is none."""
    found = list_checkpoints(folder.checkpoints)
    if previous:
        if len(found) < 2:
            raise CheckpointError(
                f"{folder.path} has no checkpoint before its newest one. {_start_again(folder)}"
            )
        found = found[:-1]
    if not found:
        return Start()
    remedy = PREVIOUS if len(found) > 1 else _start_again(folder)
    label, state = load_checkpoint(found[-1], experiment=folder.fingerprint, if_damaged=remedy)
    return Start(label.stage, label.steps_done, state)


def run_stages(
    experiment: Experiment, prior: AbstractPrior, folder: RunFolder, *, start: Start, stop: Stop
) -> Iterator[Progress]:
    """Run what is left of the experiment, yielding after each step."""
    folder.trim_log(start.stage, start.steps_done)
    drop_later(folder.checkpoints, start.stage, start.steps_done)
    renderer: AbstractRenderer | None = None
    for index in range(len(experiment.stages)):
        scene = build_scene(experiment, index, prior, renderer)
        renderer = scene.renderer
        if index < start.stage:
            _load(renderer, _finished_scene(folder, index), "scene")
            continue
        here = start if index == start.stage else Start(index)
        built = _complete(experiment, prior, scene, here)
        try:
            yield from _run_stage(experiment, built, prior, folder, start=here, stop=stop)
        except NonFiniteGradientError as error:
            raise _with_command(error, experiment, index, folder) from error
        if stop.requested:
            return
        label = CheckpointLabel(folder.fingerprint, index, built.steps)
        save_checkpoint(folder.scenes(index), label, {"scene": renderer.state_dict()})
    assert renderer is not None  # an experiment has at least one stage
    write_final_pictures(renderer, folder, experiment.options.run.turntable_frames)


def _complete(
    experiment: Experiment, prior: AbstractPrior, scene: BuiltScene, start: Start
) -> BuiltStage:
    """The rest of the stage that `start` names, in the state of its checkpoint."""
    if start.state is None:
        return complete_stage(experiment, start.stage, prior, scene)
    # First the scene: a load may exchange its parameters, and the optimiser holds the new ones.
    _load(scene.renderer, start.state["scene"], "scene")
    built = complete_stage(experiment, start.stage, prior, scene)
    _load(built.guidance, start.state["guidance"], "guidance")
    try:
        built.optimiser.load_state_dict(start.state["optimiser"])
        built.generator.set_state(start.state["generator"])
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint does not fit this machine or these plugins: {error}. Resume on the "
            f"kind of device that it was written on (this is {built.generator.device.type})."
        ) from None
    return built


def _run_stage(
    experiment: Experiment,
    built: BuiltStage,
    prior: AbstractPrior,
    folder: RunFolder,
    *,
    start: Start,
    stop: Stop,
) -> Iterator[Progress]:
    """The steps that `start` leaves of its stage."""
    options, stage, first = experiment.options.run, start.stage, start.steps_done
    reports = distill(
        renderer=built.renderer,
        prior=prior,
        guidance=built.guidance,
        sample_cameras=lambda generator: sample_cameras(built.cameras, generator),
        optimiser=built.optimiser,
        generator=built.generator,
        steps=range(first, built.steps),
    )
    began = time.perf_counter()
    wanted = options.tensorboard
    with scalar_writer(folder, stage=stage, wanted=wanted, first_step=first) as scalars:
        for report in reports:
            done = report.step.index + 1
            stopping = stop.requested  # asked once: a stop after the save below ends the next step
            seconds = round(time.perf_counter() - began, 3)
            folder.append_log({"stage": stage, "step": done - 1, "seconds": seconds, **report.logs})
            for name, value in report.logs.items():
                scalars.add_scalar(name, value, done - 1)
            if options.preview_every and done % options.preview_every == 0:
                name = f"stage_{stage}_step_{done:06d}.png"
                _write_preview(built.renderer, folder.previews / name)
            if stopping or done % options.checkpoint_every == 0 or done == built.steps:
                label = CheckpointLabel(folder.fingerprint, stage, done)
                save_checkpoint(folder.checkpoints, label, _state(built))
            yield Progress(stage, report.step.index, built.steps, report.logs)
            if stopping:
                return


def _state(built: BuiltStage) -> dict[str, Any]:
    return {
        "scene": built.renderer.state_dict(),
        "optimiser": built.optimiser.state_dict(),
        "guidance": built.guidance.state_dict(),
        "generator": built.generator.get_state(),
    }


def _finished_scene(folder: RunFolder, stage: int) -> dict[str, Any]:
    found = list_checkpoints(folder.scenes(stage))
    if not found:
        raise CheckpointError(
            f"{folder.path} lacks the finished scene of stage {stage}. {_start_again(folder)}"
        )
    # Not --previous: unless it is of an earlier stage, the one before needs this scene as well.
    _, state = load_checkpoint(
        found[-1], experiment=folder.fingerprint, if_damaged=_start_again(folder)
    )
    scene: dict[str, Any] = state["scene"]
    return scene


def _start_again(folder: RunFolder) -> str:
    return (
        "Start again in another folder: "
        f"score-distill run {folder.path / 'config.json'} --output NEW."
    )


def _with_command(
    error: NonFiniteGradientError, experiment: Experiment, stage: int, folder: RunFolder
) -> NonFiniteGradientError:
    """Which stage, as each counts its steps from 0; and a command, as `resume` changes nothing."""
    rate = experiment.stages[stage].options.optimiser.learning_rate
    return NonFiniteGradientError(
        f"stage {stage}: {error} For example: score-distill run {folder.path / 'config.json'} "
        f"--set stages.{stage}.optimiser.learning_rate={rate / 2:g} --output NEW."
    )


def _load(module: nn.Module, state: dict[str, Any], what: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint's {what} does not fit {type(module).__name__}: "
            f"{str(error).splitlines()[-1].strip()} Was a plugin updated since?"
        ) from None


def _write_preview(renderer: AbstractRenderer, path: Path) -> None:
    views = renderer.preview(turntable(SHEET_COLUMNS).to(_device(renderer)))
    save_png(path, enlarge(contact_sheet(views, min(SHEET_COLUMNS, len(views))), 128))


def write_final_pictures(renderer: AbstractRenderer, folder: RunFolder, frames: int) -> None:
    """The contact sheet and the turntable."""
    device = _device(renderer)
    views = renderer.preview(sheet_cameras().to(device))
    columns = min(SHEET_COLUMNS, len(views))
    if frames:
        spin = renderer.preview(turntable(frames).to(device))
        if len(spin) > 1:  # a scene may have but one picture to show
            save_video(folder.final / "turntable.mp4", spin)
    # Last: `resume` takes a run with a contact sheet for finished.
    save_png(folder.final / "contact_sheet.png", contact_sheet(enlarge(views, 128), columns))


def _device(renderer: AbstractRenderer) -> torch.device:
    return next(renderer.parameters()).device
