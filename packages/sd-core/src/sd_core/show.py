"""A scene as people look at it: contact sheet, turntable, and videos of its depth and normals."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sd_core.camera_sampling import CameraOptions
from sd_core.cameras import CameraBatch, sheet_cameras, turntable
from sd_core.pictures import (
    contact_sheet,
    depth_pictures,
    enlarge,
    normal_pictures,
    save_png,
    save_video,
)
from sd_core.renderer import AbstractRenderer, Rendering
from sd_core.shapes import Images, Latents

SHEET_COLUMNS = 4
LEAST_PIXELS = 128
DECODED_AT_ONCE = 4


@dataclass(frozen=True)
class Studio:
    """Takes pictures of a scene, from where the method saw it.

    At the far end of `cameras.distance` and the wide end of `cameras.vertical_fov_deg`, so that
    nothing that the method saw is cut off. `decode` turns the latents of a scene that has no other
    pictures into some.
    """

    renderer: AbstractRenderer
    cameras: CameraOptions
    decode: Callable[[Latents], Images]

    def preview(self, path: Path) -> None:
        """Four views around the scene."""
        views = self._look(self._turntable(SHEET_COLUMNS)).images
        sheet = contact_sheet(views, min(SHEET_COLUMNS, len(views)))
        save_png(path, enlarge(sheet, LEAST_PIXELS))

    def contact_sheet(self, path: Path) -> None:
        """Front, sides and back at three elevations."""
        distance, vertical_fov_deg = self.cameras.distance[1], self.cameras.vertical_fov_deg[1]
        cameras = sheet_cameras(distance=distance, vertical_fov_deg=vertical_fov_deg)
        views = self._look(cameras).images
        columns = min(SHEET_COLUMNS, len(views))
        save_png(path, contact_sheet(enlarge(views, LEAST_PIXELS), columns))

    def videos(self, folder: Path, frames: int) -> None:
        """Once around: turntable.mp4 and, where the scene has them, depth.mp4 and normals.mp4."""
        views = self._look(self._turntable(frames))
        if len(views.images) != frames:  # a scene may have other pictures than views to show
            return
        save_video(folder / "turntable.mp4", views.images)
        if views.opacity is not None and views.depth is not None:
            save_video(folder / "depth.mp4", depth_pictures(views.depth, views.opacity))
        if views.opacity is not None and views.normals is not None:
            save_video(folder / "normals.mp4", normal_pictures(views.normals, views.opacity))

    def _turntable(self, count: int) -> CameraBatch:
        distance, vertical_fov_deg = self.cameras.distance[1], self.cameras.vertical_fov_deg[1]
        return turntable(count, distance=distance, vertical_fov_deg=vertical_fov_deg)

    def _look(self, cameras: CameraBatch) -> Rendering:
        """On the CPU."""
        seen = look(self.renderer, cameras, self.decode)
        maps = {name: _on_cpu(getattr(seen, name)) for name in ("opacity", "depth", "normals")}
        return Rendering(seen.images.cpu(), **maps)


def look(
    renderer: AbstractRenderer, cameras: CameraBatch, decode: Callable[[Latents], Images]
) -> Rendering:
    """The scene's preview, latents decoded; how much it draws at once is the renderer's business.

    Pictures are clamped to [0, 1]. Everything is on the renderer's device.
    """
    seen = renderer.preview(cameras.to(next(renderer.parameters()).device))
    pictures = seen.images
    if pictures.shape[1] != 3:
        some = torch.split(pictures, DECODED_AT_ONCE)
        with torch.no_grad():
            pictures = torch.cat([decode(latents) for latents in some])
    return replace(seen, images=pictures.clamp(0, 1))


def _on_cpu(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.cpu()
