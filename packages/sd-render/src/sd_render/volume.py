"""A scene that is a volume: rays march through its field, whatever the field is."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch, rays
from sd_core.config import Options
from sd_core.errors import ConfigError
from sd_core.renderer import AbstractRenderer, Exported, RendererContext, Rendering
from sd_core.step import Step
from sd_render.background import build_background, random_colours
from sd_render.camera_checks import check_cameras
from sd_render.drawn_twice import drawn_twice
from sd_render.export.mesh_options import MeshOptions
from sd_render.field import AbstractField
from sd_render.marching import march
from sd_render.nerfacc_marching import choose_marching, march_with_nerfacc
from sd_render.occupancy import OccupancyGrid, OccupiedCells, least_density
from sd_render.ray_colours import Look, RayBundle, RayMaps, colour_rays
from sd_render.regularisers import (
    depth_variance_loss,
    opaqueness,
    orientation,
    sparsity,
    weight_entropy,
)
from sd_render.schedules import ramp, stepwise
from sd_render.shading import Shading, choose_shading
from sd_render.volume_options import VolumeOptions

Map = Float[Tensor, "batch 1 height width"]


@dataclass(frozen=True, eq=False)
class VolumeRendering(Rendering):
    """A rendering, and what the regularisers want to know of its rays."""

    depth_variance: Map | None = None
    facing_away: Map | None = None
    entropy: Map | None = None


@dataclass(frozen=True)
class _Step:
    """What `prepare` settled for the views of one step."""

    index: int = 0
    seed: int | None = None  # of jitter and backgrounds; None: the middle of each piece
    shading: Shading = "albedo"
    random_background: bool = False
    everywhere: bool = False  # nothing counts as empty


class VolumeScene(AbstractRenderer):
    """A field in a cube, with its occupancy grid and its background."""

    export_kinds: ClassVar[tuple[str, ...]] = ("glb", "obj", "ply")
    export_options: ClassVar[type[Options]] = MeshOptions

    def __init__(
        self, field: AbstractField, config: VolumeOptions, context: RendererContext
    ) -> None:
        super().__init__()
        if context.previous is not None and not self._begins_as(field, context.previous):
            raise ConfigError(
                f"a scene of class {type(self).__name__} cannot start from this "
                f"{type(context.previous).__name__}. Leave the renderer out to go on with that "
                'scene, or set start_from = "scratch" in this stage.'
            )
        self.config = config
        self.field = field
        self.background = build_background(config.background, context.generator)
        self.occupancy = OccupancyGrid(config.cells, context.device)
        self.marching = choose_marching(config.marching, context.device)
        self._step = _Step()

    @staticmethod
    def _begins_as(field: AbstractField, previous: AbstractRenderer) -> bool:
        """Give the field the values of the scene before, if they have something in common."""
        return False

    def prepare(self, step: Step, generator: Generator) -> None:
        """Schedules, what is empty, and this step's light, background and jitter.

        Every step draws the same, so that no option shifts the draws of another.
        """
        device = generator.device
        coin = float(torch.rand((), generator=generator, device=device))
        shading = choose_shading(step.index, self.config.shading, generator)
        seed = int(torch.randint(2**62, (), generator=generator, device=device))
        self._step = _Step(
            index=step.index,
            seed=seed,
            shading=shading,
            random_background=coin < self.config.background.random_share,
            everywhere=step.index < self.config.empty_after * step.total,
        )
        self.field.prepare(step)
        if step.index % self.config.cells_every == 0 or self.occupancy.is_new:
            # Draws of its own, and others than the jitter's: a bound needs none, an estimate many.
            self.occupancy.update(self.field, Generator(device).manual_seed(seed + 1))

    def forward(self, cameras: CameraBatch) -> VolumeRendering:
        """The views of this step. In `eval()` nothing is at random: no light, no jitter."""
        step = self._step if self.training else _Step(self._step.index)
        size = stepwise(self.config.size, step.index)
        return self._draw(cameras, step, size=size, look=self._training_look(step))

    def preview(self, cameras: CameraBatch) -> Rendering:
        """Unlit pictures of `preview_size`, with normals."""
        look = Look(self.config.preview_samples, "albedo", normals=True, seen_only=True)
        with torch.no_grad(), self.occupancy.looked_at_now(self.field):
            return self._draw(cameras, _Step(), size=self.config.preview_size, look=look)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        groups = self.field.parameter_groups(learning_rate)
        behind = list(self.background.parameters())
        # A tenth, as threestudio's 0.001 beside the 0.01 of its hash grid.
        return [*groups, {"params": behind, "lr": learning_rate / 10}] if behind else groups

    def regularisation(self, rendering: Rendering) -> Float[Tensor, ""] | None:
        """The weighted sum of the terms that `regularisers` asks for at this step."""
        assert isinstance(rendering, VolumeRendering) and rendering.opacity is not None
        seen, terms = rendering.opacity, []
        for name, weight in self._weights().items():
            if name == "sparsity":
                terms.append(weight * sparsity(seen))
            elif name == "opaqueness":
                terms.append(weight * opaqueness(seen))
            elif name == "total_variation" and (differ := self.field.total_variation()) is not None:
                terms.append(weight * differ)
            elif name == "depth_variance" and rendering.depth_variance is not None:
                terms.append(weight * depth_variance_loss(rendering.depth_variance, seen))
            elif name == "orientation" and rendering.facing_away is not None:
                terms.append(weight * orientation(rendering.facing_away, seen))
            elif name == "entropy" and rendering.entropy is not None:
                terms.append(weight * weight_entropy(rendering.entropy, self.config.samples))
        return torch.stack(terms).sum() if terms else None

    def export(self, kind: str, name: str, options: Options) -> Exported:
        from sd_render.export.volume_export import export_volume  # slow to import

        assert isinstance(options, MeshOptions)
        return export_volume(self.field, kind, name, options)

    def _weights(self) -> dict[str, float]:
        """The regularisers in force at this step."""
        schedules = self.config.regularisers
        weights = {
            name: ramp(getattr(schedules, name), self._step.index)
            for name in type(schedules).model_fields
        }
        return {name: weight for name, weight in weights.items() if weight}

    def _training_look(self, step: _Step) -> Look:
        weights = self._weights()
        return Look(
            self.config.samples,
            step.shading,
            normals="orientation" in weights,
            entropy="entropy" in weights,
            depth_variance="depth_variance" in weights,
            ambient=self.config.shading.ambient,
            diffuse=self.config.shading.diffuse,
        )

    def _draw(self, cameras: CameraBatch, step: _Step, *, size: int, look: Look) -> VolumeRendering:
        """All rays of all views, as many at a time as `most_samples` allows."""
        check_cameras(cameras, self.config.blob_radius * self.config.half_extent)
        bundle = self._rays(cameras, step, size)
        least = least_density(self.config.half_extent)
        occupied = None if step.everywhere else self.occupancy.occupied(least)
        at_once = max(1, self.config.most_samples // look.samples)
        parts = []
        for some in bundle.split(at_once):
            draw = partial(self._colour, some, look, occupied)
            if torch.is_grad_enabled() and len(bundle) > at_once:
                # Kept are the rays' colours alone; the samples are made again for the gradient.
                rays_of = (some.origins, some.directions, some.lights)
                parts.append(drawn_twice(draw, (*self.parameters(), *rays_of)))
            else:
                parts.append(draw())
        return _as_rendering(RayMaps.concatenate(parts), (len(cameras), size, size))

    def _rays(self, cameras: CameraBatch, step: _Step, size: int) -> RayBundle:
        """The rays of all pixels, and what of them is at random in this step."""
        origins, directions = rays(cameras, size, size)
        lights = cameras.light_position[:, None, None].expand_as(origins)
        pixels, device = origins[..., 0].numel(), origins.device
        jitter, behind = torch.full((pixels,), 0.5, device=device), None
        if step.seed is not None:
            generator = Generator(device).manual_seed(step.seed)
            colours = random_colours(len(cameras), generator)
            jitter = torch.rand(pixels, generator=generator, device=device)
            if step.random_background:
                behind = colours.repeat_interleave(size * size, dim=0)
        return RayBundle(
            origins.reshape(-1, 3), directions.reshape(-1, 3), lights.reshape(-1, 3), jitter, behind
        )

    def _colour(self, some: RayBundle, look: Look, occupied: OccupiedCells | None) -> RayMaps:
        """Where some rays are sampled, what they see there, and what is behind it."""
        marched = march_with_nerfacc if self.marching == "nerfacc" else march
        samples = marched(
            some.origins,
            some.directions,
            half_extent=self.config.half_extent,
            samples=look.samples,
            jitter=some.jitter,
            occupied=occupied,
        )
        maps = colour_rays(self.field, samples, some, look)
        behind = self.background(some.directions) if some.behind is None else some.behind
        return replace(maps, colour=maps.colour + (1 - maps.opacity) * behind)


def _as_rendering(maps: RayMaps, shape: tuple[int, int, int]) -> VolumeRendering:
    """Rays as pictures: row after row, view after view."""

    def pictures(values: Tensor) -> Tensor:
        return values.view(*shape, -1).permute(0, 3, 1, 2)

    def if_any(values: Tensor | None) -> Tensor | None:
        return None if values is None else pictures(values)

    return VolumeRendering(
        images=pictures(maps.colour),
        opacity=pictures(maps.opacity),
        depth=pictures(maps.depth),
        normals=if_any(maps.normals),
        depth_variance=if_any(maps.depth_variance),
        facing_away=if_any(maps.facing_away),
        entropy=if_any(maps.entropy),
    )
