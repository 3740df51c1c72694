"""What a view costs: 64², 64 samples a ray, forward and backward, on one thread and on two."""

import math
from collections.abc import Callable
from time import perf_counter

import torch
from _report import machine, spread, write_section
from torch import Generator

from sd_core.cameras import CameraBatch, orbit_cameras
from sd_core.renderer import RendererContext
from sd_core.step import Step
from sd_render.hash_grid import HashGrid, HashGridOptions
from sd_render.volume import VolumeScene
from sd_render.voxel_grid import VoxelGrid, VoxelGridOptions

ROUNDS = 15
SHARED = {"half_extent": 0.7, "size": 64, "samples": 64}
HASHES = {"levels": 8, "log2_table": 17, "growth": 1.5, "start_level": 8, "width": 32}


def view() -> CameraBatch:
    one = torch.ones(1)
    return orbit_cameras(
        azimuth=0.7 * one,
        elevation=0.3 * one,
        distance=2 * one,
        vertical_fov=math.radians(40.0) * one,
    )


def scenes() -> dict[str, VolumeScene]:
    """All as they begin: a ball that fills half of the cube's side."""
    context = RendererContext((3, 64, 64), Generator().manual_seed(0), torch.device("cpu"))
    grown = {"grow_at": (0.0, 0.0)}
    return {
        "voxel grid 65³": VoxelGrid(VoxelGridOptions(**SHARED, **grown), context),
        "voxel grid 65³, empty space too": VoxelGrid(
            VoxelGridOptions(**SHARED, **grown, empty_after=1.0), context
        ),
        "hash grid, compiled": HashGrid(
            HashGridOptions(**SHARED, **HASHES, encoding="compiled"), context
        ),
        "hash grid, eager": HashGrid(
            HashGridOptions(**SHARED, **HASHES, encoding="eager"), context
        ),
        "hash grid, compiled, empty space too": HashGrid(
            HashGridOptions(**SHARED, **HASHES, encoding="compiled", empty_after=1.0), context
        ),
    }


def drawing(scene: VolumeScene) -> Callable[[], None]:
    cameras = view()
    scene.prepare(Step(9, 10), Generator().manual_seed(0))
    weights = torch.ones(1, 3, 64, 64)

    def draw() -> None:
        scene(cameras).images.backward(weights)
        scene.zero_grad(set_to_none=True)

    return draw


def measure(draws: dict[str, Callable[[], None]], threads: int) -> dict[str, str]:
    """Milliseconds of each, in turn."""
    torch.set_num_threads(threads)
    times: dict[str, list[float]] = {name: [] for name in draws}
    for _ in range(2):
        for draw in draws.values():
            draw()
    for _ in range(ROUNDS):
        for name, draw in draws.items():
            began = perf_counter()
            draw()
            times[name].append(1000 * (perf_counter() - began))
    return {name: spread(values, "ms", 1) for name, values in times.items()}


def main() -> None:
    draws = {name: drawing(scene) for name, scene in scenes().items()}
    one, two = measure(draws, 1), measure(draws, 2)
    rows = "\n".join(f"| {name} | {one[name]} | {two[name]} |" for name in draws)
    write_section(
        "render-views",
        f"""## A view of 64² with 64 samples a ray

Forward and backward, of the ball that a scene begins as. "Empty space too" asks the field at all
samples, as in a scene that fills its cube.

| scene | one thread | two threads |
|---|---|---|
{rows}

Median of {ROUNDS} rounds in turn (least to most). Goal: voxel grid ≤ 60 ms on one thread.
{machine("sd-render", "torch", threads=None)}. `nox -s benchmarks -- render_views`
""",
    )


if __name__ == "__main__":
    main()
