"""The scene of ESD's Gaussian example: every camera sees one point of the plane."""

from math import pi
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from sd_core.camera_sampling import CameraOptions
from sd_core.cameras import CameraBatch, orbit_cameras
from sd_core.config import Options, option
from sd_core.errors import ConfigError
from sd_core.renderer import AbstractRenderer, RendererContext, Rendering

PREVIEW_POINTS = 1024
PREVIEW_PIXELS = 256


class AffineOptions(Options):
    """Where the Gaussian starts."""

    mean: tuple[float, float] = option((0.0, 0.0), "Initial b.", symbol="b")
    spread: float = option(1.0, "Initial A, as a multiple of the identity.", symbol="A", gt=0)
    view_extent: float = option(5.0, "Half the width of the plane shown in previews.", gt=0)


def normal_from_cameras(cameras: CameraBatch) -> Float[Tensor, "batch 2"]:
    """c = √(-2·ln u)·(cos a, sin a), u = (1 + sin e)/2, for azimuth a and elevation e.

    The Box-Muller transform: cameras uniform on the sphere become an exact standard normal.
    """
    # A camera at a pole would be infinitely far out, or give √0 = 0 with an infinite slope.
    u = ((1 + cameras.elevation.sin()) / 2).clamp(1e-12, 1.0)
    radius = (-2 * u.log()).clamp_min(0).sqrt()
    return torch.stack([radius * cameras.azimuth.cos(), radius * cameras.azimuth.sin()], dim=1)


class Affine(AbstractRenderer):
    """x = b + A·c with c ~ N(0, I) read off the camera, so that the views are N(b, A·Aᵀ)."""

    default_cameras: ClassVar[CameraOptions] = CameraOptions(
        batch=64, elevation_deg=(-90.0, 90.0), elevation_law="sphere", stratified_azimuth=False
    )

    def __init__(self, config: AffineOptions, context: RendererContext) -> None:
        super().__init__()
        if context.latent_shape != (2, 1, 1):
            raise ConfigError(
                f"renderer 'affine' draws points of shape (2, 1, 1), but the prior's are "
                f"{context.latent_shape}. Choose another renderer, or a prior of points."
            )
        self.config = config
        self.offset = nn.Parameter(torch.tensor(config.mean, device=context.device))
        self.matrix = nn.Parameter(config.spread * torch.eye(2, device=context.device))

    def forward(self, cameras: CameraBatch) -> Rendering:
        normal = normal_from_cameras(cameras).to(self.matrix)
        points = self.offset + normal @ self.matrix.T
        return Rendering(points.view(-1, 2, 1, 1))

    def preview(self, cameras: CameraBatch) -> Rendering:
        """One scatter picture of the fitted Gaussian, whatever the cameras."""
        with torch.no_grad():
            points = self(_even_sphere(PREVIEW_POINTS)).images.flatten(1).cpu()
        scale = (PREVIEW_PIXELS - 1) / 2
        pixels = ((points / self.config.view_extent + 1) * scale).round().long()
        inside = ((pixels >= 0) & (pixels < PREVIEW_PIXELS)).all(dim=1)
        columns, rows = pixels[inside].unbind(1)
        picture = torch.ones(1, 3, PREVIEW_PIXELS, PREVIEW_PIXELS)
        picture[0, :2, PREVIEW_PIXELS - 1 - rows, columns] = 0.2  # y upwards, blue on white
        thick = 1 - max_pool2d(1 - picture, 3, stride=1, padding=1)  # points of 3×3 pixels
        return Rendering(thick)


def _even_sphere(count: int) -> CameraBatch:
    """Cameras spread evenly over the sphere (a golden spiral), so that a preview never flickers."""
    index = torch.arange(count) + 0.5
    sine = 1 - 2 * index / count
    turn = (index * pi * (3 - 5**0.5)) % (2 * pi) - pi
    ones = torch.ones(count)
    return orbit_cameras(azimuth=turn, elevation=sine.asin(), distance=ones, vertical_fov=ones)
