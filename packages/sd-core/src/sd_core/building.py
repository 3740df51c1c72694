"""From a checked experiment to the objects of the loop."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Generator

from sd_core.camera_sampling import CameraOptions, sample_cameras
from sd_core.config import shown
from sd_core.distill import StepReport, distill
from sd_core.entries import Entry
from sd_core.errors import ConfigError, PluginError
from sd_core.experiment import Choice, Experiment, Stage
from sd_core.experiment_options import OptimiserOptions
from sd_core.guidance import AbstractGuidance, GuidanceContext
from sd_core.learning_rate import rate_factor
from sd_core.prior import AbstractPrior, PriorContext
from sd_core.renderer import AbstractRenderer, RendererContext
from sd_core.shapes import Images, Latents
from sd_core.step import Step

Built = TypeVar("Built")


@runtime_checkable
class PriorOutline(Protocol):
    """What a scene is told of the prior; every `AbstractPrior` is one."""

    @property
    def latent_shape(self) -> tuple[int, int, int]: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def encode(self) -> Callable[[Images], Latents]: ...


@dataclass(frozen=True, eq=False)
class BuiltScene:
    """A stage's scene alone, and the generator that it drew from and the loop draws from next."""

    renderer: AbstractRenderer
    generator: Generator


@dataclass(frozen=True, eq=False)
class BuiltStage:
    """A stage, ready for the loop."""

    renderer: AbstractRenderer
    guidance: AbstractGuidance
    optimiser: torch.optim.Optimizer
    generator: Generator
    cameras: CameraOptions
    steps: int
    rate_factor: Callable[[Step], float]

    def distill(self, prior: AbstractPrior, *, first: int = 0) -> Iterator[StepReport]:
        """The loop over the steps of this stage, from `first` on."""
        return distill(
            renderer=self.renderer,
            prior=prior,
            guidance=self.guidance,
            sample_cameras=partial(sample_cameras, self.cameras),
            optimiser=self.optimiser,
            generator=self.generator,
            steps=range(first, self.steps),
            rate_factor=self.rate_factor,
        )


def choose_device(name: str, *, told_by: str = "run.device") -> torch.device:
    """`auto` is CUDA where there is one; a device that cannot be used is an error."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        probe = torch.ones(1, device=name)
        probe.item()  # "meta" makes tensors, but never gives a number back
        return probe.device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{told_by} is '{name}', but it cannot be used ({reason}). Use cpu or auto."
        ) from None


def build_prior(experiment: Experiment) -> AbstractPrior:
    """The frozen model."""
    choice = experiment.prior
    device = choose_device(experiment.options.run.device)
    with _seeded(_seed(experiment, "prior"), device):
        prior = choice.entry.load_build()(choice.options, PriorContext(device))
    return checked(prior, AbstractPrior, choice.entry)  # type: ignore[type-abstract]


def build_stage(
    experiment: Experiment, index: int, prior: AbstractPrior, previous: AbstractRenderer | None
) -> BuiltStage:
    """Everything of one stage; the same seed gives the same bits."""
    return complete_stage(experiment, index, prior, build_scene(experiment, index, prior, previous))


def build_scene(
    experiment: Experiment,
    index: int,
    prior: PriorOutline,
    previous: AbstractRenderer | None,
    *,
    restored: bool = False,
) -> BuiltScene:
    """The first half of `build_stage`. A scene that was saved is `restored` after this half."""
    seed = _seed(experiment, f"stage {index}")
    generator = Generator(prior.device).manual_seed(seed)
    with _seeded(seed, prior.device):
        context = RendererContext(
            latent_shape=prior.latent_shape,
            generator=generator,
            device=prior.device,
            previous=previous,
            restored=restored,
            encode=prior.encode,
        )
        renderer = _build_renderer(experiment.stages[index], context)
    return BuiltScene(renderer, generator)


def complete_stage(
    experiment: Experiment,
    index: int,
    prior: AbstractPrior,
    scene: BuiltScene,
    *,
    folder: Path | None = None,
) -> BuiltStage:
    """The second half: the method, and the optimiser over the parameters that the scene now has.

    `folder` is for what the stage's method leaves for people to look at.
    """
    stage = experiment.stages[index]
    return BuiltStage(
        renderer=scene.renderer,
        guidance=build_guidance(experiment, index, prior, choice=stage.guidance, folder=folder),
        optimiser=new_optimiser(stage.options.optimiser, scene.renderer),
        generator=scene.generator,
        cameras=stage.cameras,
        steps=stage.options.steps,
        rate_factor=partial(rate_factor, stage.options.optimiser),
    )


def build_guidance(
    experiment: Experiment,
    index: int,
    prior: AbstractPrior,
    *,
    choice: Choice,
    folder: Path | None = None,
) -> AbstractGuidance:
    """A method as stage `index` would build it, the stage's own or another to compare it with."""
    # A seed of its own: what the scene drew, or a load instead of it, never shifts the method.
    with _seeded(_seed(experiment, f"stage {index} guidance"), prior.device):
        return _build_guidance(experiment, choice, prior, folder)


def new_optimiser(options: OptimiserOptions, renderer: AbstractRenderer) -> torch.optim.Optimizer:
    """The optimiser over the renderer's own parameter groups."""
    groups = renderer.parameter_groups(options.learning_rate)
    rate, decay = options.learning_rate, options.weight_decay
    if options.name == "sgd":
        return torch.optim.SGD(groups, lr=rate, weight_decay=decay)
    adam = torch.optim.Adam if options.name == "adam" else torch.optim.AdamW
    return adam(groups, lr=rate, betas=options.betas, eps=options.eps, weight_decay=decay)


def _build_renderer(stage: Stage, context: RendererContext) -> AbstractRenderer:
    if stage.renderer is None:
        assert context.previous is not None  # a first stage always has a renderer of its own
        return context.previous
    if stage.options.start_from != "previous":
        context = replace(context, previous=None)
    return _build_chosen_renderer(stage.renderer, context)


def _build_chosen_renderer(choice: Choice, context: RendererContext) -> AbstractRenderer:
    def find(
        name: str, options: Mapping[str, Any], previous: AbstractRenderer | None
    ) -> AbstractRenderer:
        part = _declared_part(choice, name, options)
        return _build_chosen_renderer(part, replace(context, previous=previous))

    renderer = choice.entry.load_build()(choice.options, replace(context, find=find))
    return checked(renderer, AbstractRenderer, choice.entry)  # type: ignore[type-abstract]


def _declared_part(choice: Choice, name: str, options: Mapping[str, Any]) -> Choice:
    """What was checked is what is built, or the run folder would not tell the truth."""
    if choice.options.made_of().get(name) != dict(options):
        raise PluginError(
            f"{choice.entry.kind} '{choice.entry.name}' asks for '{name}' with options "
            f"{shown(options)}, which made_of() of {choice.entry.config} does not declare. "
            "Tell its author."
        )
    return choice.parts[name]


def _build_guidance(
    experiment: Experiment, choice: Choice, prior: AbstractPrior, folder: Path | None
) -> AbstractGuidance:
    def find(name: str, options: Mapping[str, Any]) -> AbstractGuidance:
        part = _declared_part(choice, name, options)
        return _build_guidance(experiment, part, prior, folder and folder / name)

    context = GuidanceContext(
        prior=prior, prompt=experiment.options.prompt, find=find, folder=folder
    )
    built = choice.entry.load_build()(choice.options, context)
    guidance = checked(built, AbstractGuidance, choice.entry)  # type: ignore[type-abstract]
    guidance.name = choice.entry.name
    return guidance.to(prior.device)


def checked(built: object, kind: type[Built], entry: Entry) -> Built:
    """What a plugin built, if it is of the kind that its hook promises."""
    if not isinstance(built, kind):
        raise PluginError(
            f"{entry.kind} '{entry.name}': {entry.build} gave a {type(built).__name__}, not an "
            f"{kind.__name__}. Tell its author."
        )
    return built


def _seed(experiment: Experiment, purpose: str) -> int:
    """A seed of its own for each purpose, so that one stage's draws never shift another's."""
    digest = hashlib.sha256(f"{experiment.options.seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Libraries that initialise weights from torch's global state do it reproducibly in here.

    The CPU's, and that of the one device that is computed on: other GPUs are neither woken nor
    seeded.
    """
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if on_cuda else []):
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type != "cpu":  # MPS and the like: theirs is seeded, but cannot be put back
            torch.get_device_module(device).manual_seed(seed)
        yield
