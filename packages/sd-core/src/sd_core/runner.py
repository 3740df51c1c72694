"""Runs an experiment in a run folder: logs, previews, checkpoints, and going on after a stop."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sd_core.building import BuiltScene, BuiltStage, build_scene, complete_stage
from sd_core.checkpoint import (
    PREVIOUS,
    CheckpointLabel,
    drop_later,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from sd_core.errors import CheckpointError, EstimatorDiverged, NonFiniteGradientError
from sd_core.experiment import Experiment
from sd_core.prior import AbstractPrior
from sd_core.renderer import AbstractRenderer
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import finished_scene, load_state, start_again
from sd_core.show import Studio
from sd_core.tensorboard import scalar_writer


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


@dataclass
class Start:
    """Where a run begins: at the start, or at a checkpoint with the state that it holds."""

    stage: int = 0
    steps_done: int = 0
    state: dict[str, Any] | None = None

    def take_state(self) -> dict[str, Any] | None:
        """Once: whoever still holds the start then holds no copy of the scene and its moments."""
        state, self.state = self.state, None
        return state


def find_start(folder: RunFolder, *, previous: bool = False) -> Start:
    """The newest checkpoint, or with `previous` the one before; the beginning if there is none."""
    found = list_checkpoints(folder.checkpoints)
    if previous:
        if len(found) < 2:
            raise CheckpointError(
                f"{folder.path} has no checkpoint before its newest one. {start_again(folder)}"
            )
        found = found[:-1]
    if not found:
        return Start()
    remedy = PREVIOUS if len(found) > 1 else start_again(folder)
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
        restored = index < start.stage or (index == start.stage and start.state is not None)
        scene = build_scene(experiment, index, prior, renderer, restored=restored)
        renderer = scene.renderer
        if index < start.stage:
            load_state(renderer, finished_scene(folder, index)["scene"], "scene")
            continue
        here = start if index == start.stage else Start(index)
        built = _complete(experiment, prior, folder, scene=scene, start=here)
        try:
            yield from _run_stage(experiment, built, prior, folder, start=here, stop=stop)
        except NonFiniteGradientError as error:
            raise _with_command(error, experiment, index, folder) from error
        if stop.requested:
            return
        label = CheckpointLabel(folder.fingerprint, index, built.steps)
        save_checkpoint(folder.scenes(index), label, _scene_state(renderer, prior))
    assert renderer is not None  # an experiment has at least one stage
    studio = Studio(renderer, experiment.stages[-1].cameras, prior.decode)
    if experiment.options.run.turntable_frames:
        studio.videos(folder.final, experiment.options.run.turntable_frames)
    # Last: `resume` takes a run with a contact sheet for finished.
    studio.contact_sheet(folder.final / "contact_sheet.png")


def _complete(
    experiment: Experiment,
    prior: AbstractPrior,
    folder: RunFolder,
    *,
    scene: BuiltScene,
    start: Start,
) -> BuiltStage:
    """The rest of the stage that `start` names, in the state of its checkpoint."""
    state = start.take_state()
    if state is not None:
        # First the scene: a load may exchange its parameters, and the optimiser holds the new ones.
        load_state(scene.renderer, state["scene"], "scene")
    of_method = folder.guidance(start.stage)
    built = complete_stage(experiment, start.stage, prior, scene, folder=of_method)
    if state is None:
        return built
    load_state(built.guidance, state["guidance"], "guidance")
    try:
        built.optimiser.load_state_dict(state["optimiser"])
        built.generator.set_state(state["generator"])
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
    began = time.perf_counter()
    wanted = options.tensorboard
    with scalar_writer(folder, stage=stage, wanted=wanted, first_step=first) as scalars:
        for report in built.distill(prior, first=first):
            done = report.step.index + 1
            stopping = stop.requested  # asked once: a stop after the save below ends the next step
            seconds = round(time.perf_counter() - began, 3)
            folder.append_log({"stage": stage, "step": done - 1, "seconds": seconds, **report.logs})
            for name, value in report.logs.items():
                scalars.add_scalar(name, value, done - 1)
            if options.preview_every and done % options.preview_every == 0:
                name = f"stage_{stage}_step_{done:06d}.png"
                Studio(built.renderer, built.cameras, prior.decode).preview(folder.previews / name)
            if stopping or done % options.checkpoint_every == 0 or done == built.steps:
                label = CheckpointLabel(folder.fingerprint, stage, done)
                save_checkpoint(folder.checkpoints, label, _state(built, prior))
            yield Progress(stage, report.step.index, built.steps, report.logs)
            if stopping:
                return


def _scene_state(renderer: AbstractRenderer, prior: AbstractPrior) -> dict[str, Any]:
    """The scene, and what it must be told to be built again without the prior."""
    return {"scene": renderer.state_dict(), "latent_shape": prior.latent_shape}


def _state(built: BuiltStage, prior: AbstractPrior) -> dict[str, Any]:
    return {
        **_scene_state(built.renderer, prior),
        "optimiser": built.optimiser.state_dict(),
        "guidance": built.guidance.state_dict(),
        "generator": built.generator.get_state(),
    }


def _with_command(
    error: NonFiniteGradientError, experiment: Experiment, stage: int, folder: RunFolder
) -> NonFiniteGradientError:
    """Which stage, as each counts its steps from 0; and a command, as `resume` changes nothing."""
    if isinstance(error, EstimatorDiverged):
        return EstimatorDiverged(f"stage {stage}: {error}")
    rate = experiment.stages[stage].options.optimiser.learning_rate
    return NonFiniteGradientError(
        f"stage {stage}: {error} For example: score-distill run {folder.path / 'config.json'} "
        f"--set stages.{stage}.optimiser.learning_rate={rate / 2:g} --output NEW."
    )
