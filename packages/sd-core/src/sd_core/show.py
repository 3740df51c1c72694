"""A scene as people look at it: contact sheet, turntable, and videos of its depth and normals."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
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
        """Four views around the scene; of several, a row for each."""
        views = self._look(self._turntable(SHEET_COLUMNS)).images
        sheet = contact_sheet(views, self._columns(len(views)))
        save_png(path, enlarge(sheet, LEAST_PIXELS))

    def contact_sheet(self, path: Path) -> None:
        """Front, sides and back at three elevations; of several scenes one, a row for each scene.

        Scenes of one picture each stand side by side.
        """
        distance, vertical_fov_deg = self.cameras.distance[1], self.cameras.vertical_fov_deg[1]
        cameras = self._turntable(SHEET_COLUMNS)
        if self._scenes == 1:
            cameras = sheet_cameras(distance=distance, vertical_fov_deg=vertical_fov_deg)
        views = self._look(cameras).images
        save_png(path, contact_sheet(enlarge(views, LEAST_PIXELS), self._columns(len(views))))

    def videos(self, folder: Path, frames: int) -> None:
        """Once around: turntable.mp4 and, where the scene has them, depth.mp4 and normals.mp4.

        Several scenes turn side by side.
        """
        views = self._look(self._turntable(frames))
        # A scene may have other pictures than views to show.
        if len(views.images) != frames * self._scenes:
            return
        save_video(folder / "turntable.mp4", self._side_by_side(views.images))
        if views.opacity is not None and views.depth is not None:
            pictures = depth_pictures(views.depth, views.opacity)
            save_video(folder / "depth.mp4", self._side_by_side(pictures))
        if views.opacity is not None and views.normals is not None:
            pictures = normal_pictures(views.normals, views.opacity)
            save_video(folder / "normals.mp4", self._side_by_side(pictures))

    @property
    def _scenes(self) -> int:
        return len(self.renderer.single_scenes)

    def _columns(self, pictures: int) -> int:
        """Of a sheet: as many as one of several scenes has pictures, so that each has a row."""
        each = pictures // self._scenes
        return each if self._scenes > 1 and each > 1 else min(SHEET_COLUMNS, pictures)

    def _side_by_side(self, pictures: Images) -> Float[Tensor, "frames channels rows columns"]:
        """Scene after scene, frame after frame → frames that show all scenes."""
        of_frames = pictures.reshape(self._scenes, -1, *pictures.shape[1:]).transpose(0, 1)
        columns = min(SHEET_COLUMNS, self._scenes)
        return torch.cat([contact_sheet(frame, columns) for frame in of_frames])

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
