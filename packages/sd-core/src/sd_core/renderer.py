"""Contract 3: the renderer, which owns the scene θ and draws it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from sd_core.camera_sampling import CameraOptions
from sd_core.cameras import CameraBatch
from sd_core.shapes import Images
from sd_core.step import Step


@dataclass(frozen=True, eq=False)
class Rendering:
    """The views of one step. Only `images` is always there."""

    images: Images
    opacity: Float[Tensor, "batch 1 height width"] | None = None
    depth: Float[Tensor, "batch 1 height width"] | None = None
    normals: Float[Tensor, "batch 3 height width"] | None = None


@dataclass(frozen=True)
class RendererContext:
    """What a renderer's `build(config, context)` is given.

    `previous` is the scene of the stage before, where a stage starts from one.
    """

    latent_shape: tuple[int, int, int]
    generator: Generator
    device: torch.device
    previous: "AbstractRenderer | None" = None


class AbstractRenderer(nn.Module, ABC):
    """A scene and its differentiable drawing. The parameters are what the loop optimises."""

    # How the views are drawn where the experiment does not say.
    default_cameras: ClassVar[CameraOptions] = CameraOptions()

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

    def preview(self, cameras: CameraBatch) -> Images:
        """Pictures for people: RGB in [0, 1]. A scene that is not made of pictures draws itself."""
        with torch.no_grad():
            return self.forward(cameras).images.clamp(0, 1)
