"""Contract 3: the renderer, which owns the scene θ and draws it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from sd_core.camera_sampling import CameraOptions
from sd_core.cameras import CameraBatch
from sd_core.config import Options
from sd_core.errors import ConfigError
from sd_core.shapes import Images, Latents
from sd_core.step import Step


@dataclass(frozen=True, eq=False)
class Rendering:
    """The views of one step. Only `images` is always there.

    `depth` is the mean distance along the ray to what was seen, `normals` point out of it; both
    mean nothing where `opacity` is 0.
    """

    images: Images
    opacity: Float[Tensor, "batch 1 height width"] | None = None
    depth: Float[Tensor, "batch 1 height width"] | None = None
    normals: Float[Tensor, "batch 3 height width"] | None = None


@dataclass(frozen=True)
class Exported:
    """A scene as files for other programs: their contents by name, the main file first.

    `notes` are lines for the user: how it was made, and what he may want to change.
    """

    files: Mapping[str, bytes]
    notes: tuple[str, ...] = ()


def _as_they_are(images: Images) -> Latents:
    return images


def _find_nothing(
    name: str, options: Mapping[str, Any], previous: "AbstractRenderer | None"
) -> "AbstractRenderer":
    raise LookupError(f"this context finds no other renderers, not even '{name}'")


@dataclass(frozen=True)
class RendererContext:
    """What a renderer's `build(config, context)` is given.

    `previous` is the scene of the stage before, where a stage starts from one. `encode` is the
    prior's, for a scene that begins as the latents of a picture; a saved scene that is only looked
    at is built without a prior, and gets zeros from it before its state is loaded. Where a saved
    state follows (`restored`), what the scene began as counts no more: the file may be gone.
    `find(name, options, previous)` builds another installed renderer, for scenes made of others:
    one that the options' own `made_of()` declares.
    """

    latent_shape: tuple[int, int, int]
    generator: Generator
    device: torch.device
    previous: "AbstractRenderer | None" = None
    restored: bool = False
    encode: Callable[[Images], Latents] = _as_they_are
    find: "Callable[[str, Mapping[str, Any], AbstractRenderer | None], AbstractRenderer]" = (
        _find_nothing
    )


class AbstractRenderer(nn.Module, ABC):
    """A scene and its differentiable drawing. The parameters are what the loop optimises."""

    # How the views are drawn where the experiment does not say.
    default_cameras: ClassVar[CameraOptions] = CameraOptions()
    # The kinds of file that `export` writes, such as "glb", and the options it takes.
    export_kinds: ClassVar[tuple[str, ...]] = ()
    export_options: ClassVar[type[Options]] = Options

    @property
    def single_scenes(self) -> "list[AbstractRenderer]":
        """What is looked at and judged one by one: this scene, or the several that it holds.

        Where there are several, `preview` shows one after the other, each in as many pictures.
        """
        return [self]

    @abstractmethod
    def forward(self, cameras: CameraBatch) -> Rendering:
        """The scene from each camera; differentiable in the parameters."""

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Groups for the optimiser, where parts of the scene learn at rates of their own."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]

    def regularisation(self, rendering: Rendering) -> Float[Tensor, ""] | None:
        """A scalar added to the objective, in units of the gradient of one mean sample."""
        return None

    def prepare(self, step: Step, generator: Generator) -> None:
        """Schedules of resolution and shading, and this step's random draws, before `forward`."""

    def preview(self, cameras: CameraBatch) -> Rendering:
        """What people look at: RGB in [0, 1], or latents, which the host decodes.

        Whatever training does at random (light, background, jitter) is left out. A scene that is
        not made of pictures draws itself, in as many pictures as it likes.
        """
        with torch.no_grad():
            return self.forward(cameras)

    def export(self, kind: str, name: str, options: Options) -> Exported:
        """The scene as a file `name`.`kind`, and those that belong to it.

        `kind` is one of `export_kinds`, `options` an instance of `export_options`.
        """
        raise ConfigError(f"this scene cannot be written as {kind}.")
