"""Several scenes that share the method's estimator: particles of one distribution."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator
from torch import Generator, Tensor, nn

from sd_core.cameras import CameraBatch
from sd_core.config import Options, option, shown
from sd_core.errors import ConfigError
from sd_core.renderer import AbstractRenderer, Exported, RendererContext, Rendering
from sd_core.step import Step


def _name_alone(told: Any) -> Any:
    return {"name": told} if isinstance(told, str) else told


_Scene = Annotated[
    dict[str, Any],
    BeforeValidator(_name_alone),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]}),
]


class ParticlesOptions(Options):
    """How many, of which scene, and how many of them a step draws."""

    scene: _Scene = Field(
        default_factory=dict,
        description="The renderer that there are several of: name and its options. Without a name: "
        "the prior's usual one.",
    )
    count: int = option(4, "Particles.", symbol="n", ge=1)
    at_once: int = option(
        1, "Particles drawn in one step, which share its cameras in equal parts.", ge=1
    )

    @field_validator("scene")
    @classmethod
    def _a_name_is_a_text(cls, scene: dict[str, Any]) -> dict[str, Any]:
        if isinstance(scene.get("name", ""), str):
            return scene
        raise ValueError(f"the name is {shown(scene['name'])}. Write the name of a renderer.")

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> "ParticlesOptions":
        if self.at_once > self.count:
            raise ValueError(
                f"at_once is {self.at_once}, but there are {self.count} particles. Set at_once to "
                f"{self.count} at most, or a larger count."
            )
        return self

    def made_of(self) -> dict[str, dict[str, Any]]:
        own = {key: value for key, value in self.scene.items() if key != "name"}
        return {self.scene.get("name", ""): own}

    def place_of(self, name: str) -> str:
        return "scene"

    def resolved(self, parts: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        ((name, own),) = parts.items()
        return {**super().resolved(parts), "scene": {"name": name, **own}}


@dataclass(frozen=True, eq=False)
class ParticlesRendering(Rendering):
    """The views of all particles drawn, in the order of the cameras; `parts` is what each drew."""

    parts: Mapping[int, Rendering] = field(default_factory=dict)


class Particles(AbstractRenderer):
    """θ = (θ_1, ..., θ_n), n scenes of one kind. The n scenes' views are samples of one law μ.

    A step draws k of them without replacement, and camera i of b looks at the (i mod k)-th of
    these: each is seen from b/k cameras, spread as evenly over the step's as they can be. The
    estimator learns from the views of all particles, hence the score of the mean over them.

    Of those not drawn nothing moves: they have no gradient, and the optimiser passes them over.
    """

    def __init__(self, config: ParticlesOptions, context: RendererContext) -> None:
        super().__init__()
        self.config = config
        ((name, options),) = config.made_of().items()
        # One generator for all, which goes on: what a scene begins with at random differs.
        self.scenes = nn.ModuleList(
            context.find(name, options, begin) for begin in _beginnings(config, context.previous)
        )
        self._drawn: tuple[int, ...] = tuple(range(config.at_once))

    @property
    def single_scenes(self) -> list[AbstractRenderer]:
        return [single for scene in self._all() for single in scene.single_scenes]

    def prepare(self, step: Step, generator: Generator) -> None:
        """Draw the particles of this step, and prepare them."""
        order = torch.randperm(self.config.count, generator=generator, device=generator.device)
        self._drawn = tuple(order[: self.config.at_once].tolist())
        for index in self._drawn:
            self._scene(index).prepare(step, generator)

    def forward(self, cameras: CameraBatch) -> ParticlesRendering:
        at_once = len(self._drawn)
        if len(cameras) % at_once:
            raise ConfigError(
                f"renderer 'particles': {len(cameras)} cameras cannot be divided equally among "
                f"{at_once} particles. Set cameras.batch to a multiple of {at_once}, or "
                "renderer.at_once to a divisor of the batch."
            )
        parts = {
            index: self._scene(index)(cameras.select(slice(place, None, at_once)))
            for place, index in enumerate(self._drawn)
        }
        seen = _joined(list(parts.values()), _taking_turns)
        return ParticlesRendering(seen.images, seen.opacity, seen.depth, seen.normals, parts)

    def regularisation(self, rendering: Rendering) -> Float[Tensor, ""] | None:
        """(1/k)·Σ_j of the k drawn: each has the weight against its own views that one scene has.

        The objective's gradient is a mean over all views, so that a particle's share is 1/k too.
        """
        assert isinstance(rendering, ParticlesRendering)
        told = [self._scene(j).regularisation(part) for j, part in rendering.parts.items()]
        terms = [each for each in told if each is not None]
        return torch.stack(terms).sum() / len(told) if terms else None

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [group for each in self._all() for group in each.parameter_groups(learning_rate)]

    def preview(self, cameras: CameraBatch) -> Rendering:
        """Particle after particle, each from all cameras."""
        return _joined([scene.preview(cameras) for scene in self._all()], torch.cat)

    def export(self, kind: str, name: str, options: Options) -> Exported:
        """Each particle's files, by the names `name`-0, `name`-1, ..."""
        files: dict[str, bytes] = {}
        notes: list[str] = []
        for index, scene in enumerate(self._all()):
            exported = scene.export(kind, f"{name}-{index}", options)
            files |= exported.files
            notes += [f"particle {index}: {note}" for note in exported.notes]
        return Exported(files, tuple(notes))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Scene by scene: one may load in a way of its own, which torch would pass over."""
        rest = dict(state_dict)
        for index, scene in enumerate(self._all()):
            prefix = f"scenes.{index}."
            own = {key: rest.pop(key) for key in state_dict if key.startswith(prefix)}
            state = {key.removeprefix(prefix): value for key, value in own.items()}
            scene.load_state_dict(state, strict=strict, assign=assign)
        if rest and strict:
            raise RuntimeError(f"{next(iter(rest))} is of none of {len(self.scenes)} particles.")

    def _all(self) -> list[AbstractRenderer]:
        return [self._scene(index) for index in range(len(self.scenes))]

    def _scene(self, index: int) -> AbstractRenderer:
        scene = self.scenes[index]
        assert isinstance(scene, AbstractRenderer)
        return scene


def _beginnings(
    config: ParticlesOptions, previous: AbstractRenderer | None
) -> Sequence[AbstractRenderer | None]:
    """What each begins as: the particle of its number, or the one scene there was, or nothing."""
    if not isinstance(previous, Particles):
        return [previous] * config.count
    if len(previous.scenes) != config.count:
        raise ConfigError(
            f"renderer 'particles': count is {config.count}, but the stage before has "
            f"{len(previous.scenes)} particles. Set count = {len(previous.scenes)}, or "
            'start_from = "scratch".'
        )
    return previous._all()


def _joined(parts: Sequence[Rendering], join: Callable[[list[Tensor]], Tensor]) -> Rendering:
    """One rendering of several, without what one of them has not."""

    def joined(maps: list[Tensor | None]) -> Tensor | None:
        found = [each for each in maps if each is not None]
        return join(found) if len(found) == len(maps) else None

    return Rendering(
        images=join([part.images for part in parts]),
        opacity=joined([part.opacity for part in parts]),
        depth=joined([part.depth for part in parts]),
        normals=joined([part.normals for part in parts]),
    )


def _taking_turns(
    pictures: list[Float[Tensor, "each channels height width"]],
) -> Float[Tensor, "batch channels height width"]:
    """The first of each, then the second of each: the cameras' own order."""
    return torch.stack(pictures, dim=1).flatten(0, 1)
