"""Methods side by side on the same pictures: many gradients of each, differing in noise alone.

The scene is drawn once from each camera. Then every method judges these latents at one t, draw
after draw, and draw k has the same seed for all methods and all t.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Generator

from sd_core.building import build_guidance, build_scene, choose_device, complete_stage
from sd_core.camera_sampling import sample_cameras
from sd_core.cameras import CameraBatch
from sd_core.config import Options, option
from sd_core.diagnostics import Draws, Spread, alignment, correlation, spread
from sd_core.distill import check_shape
from sd_core.errors import ConfigError, NonFiniteGradientError
from sd_core.experiment import Choice, Experiment
from sd_core.experiment_options import Table
from sd_core.guidance import AbstractGuidance, Guided
from sd_core.prior import AbstractPrior
from sd_core.renderer import AbstractRenderer
from sd_core.residual import ObservedResidual
from sd_core.run_folder import RunFolder
from sd_core.runner import find_start
from sd_core.saved_scene import load_scene, load_state
from sd_core.shapes import Latents
from sd_core.step import Step

_Count = Annotated[int, Field(ge=0)]
Learned = Literal["nothing to learn", "as it begins", "with this scene"]


class DiagnoseOptions(Options):
    """What a user may say beside the experiment."""

    draws: int = option(32, "Gradients at each camera.", symbol="K", ge=2)
    cameras: int = option(4, "How many cameras.", ge=1)
    times: tuple[_Count, ...] | None = option(None, "Which t, as indices.", symbol="t")
    steps: tuple[_Count, ...] = option((0,), "After how many steps.", min_length=1)


@dataclass(frozen=True)
class Diagnosed:
    """A method at one step and one t. Without two terms `correlation` and `alignment` are NaN."""

    method: str
    step: int
    t: int
    spread: Spread
    correlation: float
    alignment: float
    learned: Learned


@dataclass(frozen=True, eq=False)
class Moment:
    """A scene at a step of a stage, and what that stage's own method had learned by then."""

    renderer: AbstractRenderer
    stage: int
    step: Step
    learned: Mapping[str, Any] | None = None
    folder: Path | None = None  # where that method left its files


@dataclass(frozen=True, eq=False)
class Views:
    """What every method is shown."""

    latents: Latents
    cameras: CameraBatch


@dataclass(frozen=True, eq=False)
class Bench:
    """What is diagnosed, on which prior."""

    experiment: Experiment
    prior: AbstractPrior
    options: DiagnoseOptions
    choices: Sequence[Choice]
    times: Sequence[int]

    def diagnose(self, moment: Moment) -> Iterator[Diagnosed]:
        """Every method at every t. Each is built anew, so that one at a time is in memory.

        What one leaves in its folder, such as pictures that it had the prior make, it finds again.
        """
        views = self._look(moment)
        with TemporaryDirectory() as aside:
            for choice in self.choices:
                for t in self.times:
                    yield self._diagnosed(choice, t, moment, views, Path(aside))

    @property
    def seeds(self) -> list[int]:
        """One for each draw."""
        generator = Generator().manual_seed(self.experiment.options.seed)
        seeds: list[int] = torch.randint(2**53, (self.options.draws,), generator=generator).tolist()
        return seeds

    def _look(self, moment: Moment) -> Views:
        """One batch of the stage's own cameras."""
        generator = Generator(self.prior.device).manual_seed(self.experiment.options.seed)
        chosen = self.experiment.stages[moment.stage].cameras
        moment.renderer.prepare(moment.step, generator)
        cameras = sample_cameras(
            chosen.model_copy(update={"batch": self.options.cameras}), generator
        )
        with torch.no_grad():
            images = moment.renderer(cameras).images
            latents = self.prior.encode(images, generator=generator)
        check_shape(images, latents, self.prior)
        return Views(latents, cameras)

    def _diagnosed(
        self, choice: Choice, t: int, moment: Moment, views: Views, aside: Path
    ) -> Diagnosed:
        guidance, learned = self._build(choice, t, moment, aside)
        gradients, terms = self._draw(guidance, t, moment.step, views)
        return Diagnosed(
            method=choice.entry.name,
            step=moment.step.index,
            t=t,
            spread=spread(gradients, Generator().manual_seed(self.experiment.options.seed)),
            correlation=correlation(*terms) if terms else nan,
            alignment=alignment(*terms) if terms else nan,
            learned=learned,
        )

    def _build(
        self, choice: Choice, t: int, moment: Moment, aside: Path
    ) -> tuple[AbstractGuidance, Learned]:
        """The method at this t alone, and as it was by then if it is the stage's own."""
        name = choice.entry.name
        table = at_one_time(choice.table(), t, len(self.prior.schedule))
        chosen = self.experiment.choose("guidance", table, name)
        own = name == self.experiment.stages[moment.stage].guidance.entry.name
        guidance = build_guidance(
            self.experiment,
            moment.stage,
            self.prior,
            choice=chosen,
            folder=moment.folder if own and moment.folder else aside / name,
        )
        if own and moment.learned is not None:
            load_state(guidance, dict(moment.learned), "guidance")
            return guidance, "with this scene" if moment.learned else "nothing to learn"
        return guidance, "as it begins" if guidance.state_dict() else "nothing to learn"

    def _draw(
        self, guidance: AbstractGuidance, t: int, step: Step, views: Views
    ) -> tuple[Draws, tuple[Draws, Draws] | None]:
        gradients, terms = [], []
        for seed in self.seeds:
            generator = Generator(self.prior.device).manual_seed(seed)
            guided = guidance.gradient(views.latents, views.cameras, step=step, generator=generator)
            _check(guided, guidance.name, t, step)
            gradients.append(_flat(guided.gradient))
            if isinstance(guided.observed, ObservedResidual):
                terms.append([_flat(term) for term in guided.observed.terms])
        both = [torch.stack(draws) for draws in zip(*terms, strict=True)]
        return torch.stack(gradients), (both[0], both[1]) if both else None


def saved_moment(run: RunFolder, experiment: Experiment) -> Moment:
    """The newest scene of a run."""
    device = choose_device(experiment.options.run.device)
    scene = load_scene(run, experiment, device=device)
    start = find_start(run)
    state = start.state if start.stage == scene.stage else None
    total = experiment.stages[scene.stage].options.steps
    return Moment(
        renderer=scene.renderer.train(),  # as the methods saw it
        stage=scene.stage,
        step=Step(min(scene.steps_done, total - 1), total),
        learned=state and state["guidance"],
        folder=run.guidance(scene.stage),
    )


def moments_along(
    experiment: Experiment, prior: AbstractPrior, steps: Sequence[int]
) -> Iterator[Moment]:
    """The first stage, distilled by its own method up to each of the steps."""
    scene = build_scene(experiment, 0, prior, None)
    total = experiment.stages[0].options.steps
    if max(steps) == 0:  # then its own method is not needed
        yield Moment(scene.renderer, 0, Step(0, total))
        return
    built = complete_stage(experiment, 0, prior, scene)
    running = built.distill(prior)
    done = 0
    for step in sorted(set(steps)):
        for _ in range(done, step):
            next(running)
        done = step
        learned = deepcopy(built.guidance.state_dict()) if done else None
        # A copy: being looked at may change a scene, such as what it takes for empty.
        yield Moment(deepcopy(scene.renderer), 0, Step(step, total), learned)


def at_one_time(table: Table, t: int, length: int) -> Table:
    """A method's resolved options with a range of times that holds one index, t.

    Bounds are fractions of the schedule, rounded to an index, so ± 1/4 of an index is t alone.
    Wherever there are `timesteps`, as in the parts of a mix.
    """
    only = {"schedule": "uniform", "low": max(t - 0.25, 0) / length, "high": (t + 0.25) / length}

    def fixed(told: Table) -> Table:
        return {
            key: only if key == "timesteps" else fixed(value) if isinstance(value, dict) else value
            for key, value in told.items()
        }

    return fixed(table)


def _check(guided: Guided, name: str, t: int, step: Step) -> None:
    if not bool((guided.t == t).all()):
        raise ConfigError(
            f"guidance '{name}' was told t = {t}, but judged at t = {guided.t.tolist()}: at step "
            f"{step.index} of {step.total} it chooses for itself. Leave it out of --methods."
        )
    if not bool(guided.gradient.isfinite().all()):
        raise NonFiniteGradientError(
            f"guidance '{name}' gave a non-finite gradient at t = {t}. Try a smaller guidance "
            "scale, another --times, or run the prior in float32."
        )


def _flat(latents: Latents) -> torch.Tensor:
    return latents.detach().flatten(1).cpu()
