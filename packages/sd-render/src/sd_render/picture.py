"""The scene whose parameters are pictures, or latents: score distillation in two dimensions."""

from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from pydantic import field_validator, model_validator
from torch import Tensor, nn

from sd_core.camera_sampling import CameraOptions
from sd_core.cameras import CameraBatch
from sd_core.config import Options, option, shown
from sd_core.errors import ConfigError
from sd_core.pictures import to_bytes
from sd_core.renderer import AbstractRenderer, Exported, RendererContext, Rendering
from sd_core.shapes import Images, Latents
from sd_render.crops import crops, masked, views_of
from sd_render.image_file import Fit, fitted, read_image, resized

DEFAULT_SIZE = 64
# The noise that a scene begins as: mean, and the default standard deviation. In pixels 1 in 80
# values is clipped; latents are N(0, I), as in the bridge's code.
_NOISE = {"pixels": (0.5, 0.2), "latents": (0.0, 1.0)}
_FILL = {"grey": 0.5, "white": 1.0, "black": 0.0}


class PictureOptions(Options):
    """What the pictures are, how they begin, and what a camera sees of them."""

    space: Literal["pixels", "latents"] = option(
        "pixels", "RGB pictures that the prior encodes, or what the prior diffuses itself."
    )
    size: int | tuple[int, int] | None = option(
        None, "Side in pixels, or [height, width]; 64 by default. Latents have the prior's size."
    )
    count: int = option(1, "Pictures (particles), each in an equal sector of azimuth.", ge=1)
    view: Literal["whole", "crop", "mask"] = option(
        "whole", "All of it, a window at its own size, or a window with the rest filled."
    )
    window: float = option(0.5, "Side of the window as a share of the picture.", gt=0, le=1)
    fill: Literal["grey", "white", "black"] = option(
        "grey", "What surrounds a masked window; grey is 0 in [-1, 1]. In latents it is 0."
    )
    image: str | None = option(
        None, "File that the pictures begin as; none for noise.", min_length=1
    )
    fit: Fit = option(
        "refuse", "Where the image has another size: an error, stretch it, or take its middle."
    )
    start_spread: float | None = option(
        None,
        "Standard deviation of the initial noise. Default: 0.2 in pixels, 1 in latents; 0 where "
        "the scene begins as an image or as the scene before.",
        ge=0,
    )

    @field_validator("size", mode="before")
    @classmethod
    def _one_side_or_two(cls, size: Any) -> Any:
        sides = list(size) if isinstance(size, list | tuple) else [size, size]
        whole = all(isinstance(side, int) and side is not True and side >= 1 for side in sides)
        if size is None or (whole and len(sides) == 2):
            return size
        raise ValueError(
            f"{shown(size)} is not a size. Write a side in pixels, such as 64, or "
            "[height, width], such as [64, 96]."
        )

    @field_validator("image")
    @classmethod
    def _the_same_from_everywhere(cls, image: str | None) -> str | None:
        # A run is resumed from any folder.
        return None if image is None else str(Path(image).expanduser().absolute())

    @model_validator(mode="after")
    def _latents_fit_the_prior(self) -> "PictureOptions":
        if self.space == "latents" and self.size is not None:
            raise ValueError(
                "size is set, but the prior says how large latents are. Leave size out, or set "
                'space = "pixels".'
            )
        if self.space == "latents" and self.fill != "grey":
            raise ValueError(
                f'fill is "{self.fill}", but latents have no {self.fill}: outside the window they '
                'are 0. Leave fill out, or set space = "pixels".'
            )
        return self

    @model_validator(mode="after")
    def _all_that_is_told_counts(self) -> "PictureOptions":
        if self.view == "whole" and self.is_changed("window"):
            raise ValueError(
                f"window is {self.window}, but the view is whole. Leave window out, or set "
                'view = "crop" or "mask".'
            )
        if self.view != "mask" and self.is_changed("fill"):
            raise ValueError(
                f'fill is "{self.fill}", but only a masked window is surrounded. Leave fill out, '
                'or set view = "mask".'
            )
        if self.image is None and self.is_changed("fit"):
            raise ValueError(
                f'fit is "{self.fit}", but there is no image to fit. Leave fit out, or name the '
                "file as image."
            )
        return self


def in_range(values: Images) -> Images:
    """min(max(θ, 0), 1), whose gradient lets a pixel back in and never further out.

    With g = ∂L/∂image: ∂L/∂θ = 0 where descent leaves the range (θ >= 1 and g < 0, or θ <= 0 and
    g > 0), else g, outside the range too. It is the projected gradient. The clamp's own is 0
    outside, so that a pixel once out is lost; a sigmoid's vanishes towards both ends and is exactly
    0 in float32 beyond 17, and a step of it is another change of colour at every level.
    """
    bounded: Images = _InRange.apply(values)  # type: ignore[no-untyped-call]
    return bounded


class Picture(AbstractRenderer):
    """N pictures, or latents: a camera sees picture k, whole or through a window m (ESD, App. B).

    θ is the picture itself, in [0, 1] by `in_range`; latents are not bounded. Which k and which m
    is read off the camera, see `crops`, so that a method's camera condition names the view. A pixel
    near an edge lies in fewer windows than one in the middle, a corner in a single one.

    The prompt should have `views = "none"`: sides of a flat picture have no names.
    """

    # The whole sphere, each position of the window equally often.
    default_cameras: ClassVar[CameraOptions] = CameraOptions(
        elevation_deg=(-90.0, 90.0), elevation_law="degrees"
    )
    export_kinds: ClassVar[tuple[str, ...]] = ("png",)

    def __init__(self, config: PictureOptions, context: RendererContext) -> None:
        super().__init__()
        self.config = config
        if config.space == "latents" and context.latent_shape[0] == 3:
            raise ConfigError(
                f"renderer 'picture': this prior has no latents, it diffuses pictures of shape "
                f'{context.latent_shape}. Set space = "pixels" and size = '
                f"{list(context.latent_shape[1:])}."
            )
        self.values = nn.Parameter(_start(config, context).to(context.device))
        height, width = self.values.shape[-2:]
        self.window = max(1, round(config.window * height)), max(1, round(config.window * width))
        if config.space == "latents" and config.view == "crop" and self.window != (height, width):
            raise ConfigError(
                f"renderer 'picture': a crop of {self.window[0]} × {self.window[1]} latents is not "
                f'what the prior diffuses, {height} × {width}. Set view = "mask", or space = '
                '"pixels".'
            )

    @property
    def pictures(self) -> Images:
        """All N of them, whole; differentiable."""
        return in_range(self.values) if self.config.space == "pixels" else self.values

    def forward(self, cameras: CameraBatch) -> Rendering:
        views = views_of(cameras.to(self.values.device), len(self.values))
        if self.config.view == "crop":
            return Rendering(crops(self.pictures, views, self.window))
        if self.config.view == "mask":
            fill = _FILL[self.config.fill] if self.config.space == "pixels" else 0.0
            return Rendering(masked(self.pictures, views, window=self.window, fill=fill))
        return Rendering(self.pictures[views.particle])

    def preview(self, cameras: CameraBatch) -> Rendering:
        """All N pictures whole, whatever the cameras; latents as they are."""
        with torch.no_grad():
            return Rendering(self.pictures.clone())

    def export(self, kind: str, name: str, options: Options) -> Exported:
        """`name`.png, or `name`_0.png, `name`_1.png, ... where there are several."""
        if self.config.space == "latents":
            raise ConfigError(
                "this scene is made of latents, and only its prior can make a picture of them: "
                "see final/contact_sheet.png of the run."
            )
        files = {}
        for index, picture in enumerate(to_bytes(self.pictures)):
            buffer = BytesIO()
            Image.fromarray(picture).save(buffer, format="PNG")
            files[f"{name}.png" if len(self.values) == 1 else f"{name}_{index}.png"] = (
                buffer.getvalue()
            )
        return Exported(files)


def _start(config: PictureOptions, context: RendererContext) -> Images:
    """θ = beginning + s·N(0, I), drawn on the generator's device; pixels are then clamped.

    The beginning is the scene before, the image, or what noise lies around.
    """
    size = config.size or DEFAULT_SIZE
    shape = context.latent_shape
    if config.space == "pixels":
        shape = (3, *((size, size) if isinstance(size, int) else size))
    mean, spread = _NOISE[config.space]
    with torch.no_grad():
        given = _given(config, context, shape)
    if given is not None:
        spread = 0.0
    spread = spread if config.start_spread is None else config.start_spread
    generator = context.generator
    noise = torch.randn(config.count, *shape, generator=generator, device=generator.device)
    start: Tensor = (mean if given is None else given.to(noise)) + spread * noise
    return start.clamp(0, 1) if config.space == "pixels" else start


def _given(
    config: PictureOptions, context: RendererContext, shape: tuple[int, int, int]
) -> Images | None:
    """What the scene begins as, one or N of `shape`; None for noise."""
    if context.previous is not None:
        if config.image is not None:
            raise ConfigError(
                "renderer 'picture': image is set, but this stage starts from the scene before. "
                'Leave image out, or set start_from = "scratch" in this stage.'
            )
        return _from_previous(config, context, shape)
    if config.image is None:
        return None
    if context.restored:
        return torch.zeros(1, *shape)
    image = read_image(Path(config.image))
    if config.space == "pixels":
        return fitted(image, shape[1], shape[2], config.fit)[None]
    # The encoder scales a picture to its own size; the proportions are ours to mind.
    scale = min(image.shape[1] / shape[1], image.shape[2] / shape[2])
    height, width = max(1, round(scale * shape[1])), max(1, round(scale * shape[2]))
    return _encoded(fitted(image, height, width, config.fit)[None], context)


def _from_previous(
    config: PictureOptions, context: RendererContext, shape: tuple[int, int, int]
) -> Images:
    previous = context.previous
    if not isinstance(previous, Picture):
        raise ConfigError(
            f"renderer 'picture' cannot start from a scene of class {type(previous).__name__}. "
            'Set start_from = "scratch" in this stage.'
        )
    pictures = previous.pictures
    if len(pictures) not in (1, config.count):
        raise ConfigError(
            f"renderer 'picture': count is {config.count}, but the scene before has "
            f'{len(pictures)} pictures. Set count = {len(pictures)}, or start_from = "scratch".'
        )
    if previous.config.space == config.space:
        return resized(pictures, shape[1], shape[2]) if config.space == "pixels" else pictures
    if config.space == "pixels":
        raise ConfigError(
            "renderer 'picture': the scene before is latents, which cannot become pixels. Set "
            'space = "latents", or start_from = "scratch".'
        )
    return _encoded(pictures, context)


def _encoded(images: Images, context: RendererContext) -> Latents:
    latents = context.encode(images.to(context.device))
    if tuple(latents.shape[1:]) != context.latent_shape:
        raise ConfigError(
            f"renderer 'picture': the prior makes {tuple(latents.shape[1:])} of the image, but its "
            f'latents are {context.latent_shape}. Set space = "pixels", where it encodes each view.'
        )
    return latents


class _InRange(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        context.save_for_backward(values)
        return values.clamp(0, 1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (values,) = context.saved_tensors
        leaves = ((values >= 1) & (gradient < 0)) | ((values <= 0) & (gradient > 0))
        return gradient.masked_fill(leaves, 0)
