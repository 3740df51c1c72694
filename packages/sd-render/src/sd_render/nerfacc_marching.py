"""Marching with nerfacc's traversal of occupancy grids, for CUDA."""

from importlib.util import find_spec

import torch

from sd_core.errors import ConfigError
from sd_render.marching import PerRay, Rays, Samples
from sd_render.occupancy import OccupiedCells
from sd_render.ray_box import ray_box


def choose_marching(named: str, device: torch.device) -> str:
    """`batched` or `nerfacc`; a backend that was named and cannot be had is an error."""
    installed = find_spec("nerfacc") is not None
    if named == "auto":
        return "nerfacc" if installed and device.type == "cuda" else "batched"
    if named == "nerfacc" and not installed:
        raise ConfigError(
            "renderer.marching is nerfacc, which is not installed. Install it: "
            'pip install "sd-render[cuda]", or set renderer.marching = "batched".'
        )
    if named == "nerfacc" and device.type != "cuda":
        raise ConfigError(
            f"renderer.marching is nerfacc, which needs a CUDA device, but this is {device}. "
            'Set renderer.marching = "batched", or run.device = "cuda".'
        )
    return named


def march_with_nerfacc(
    origins: Rays,
    directions: Rays,
    *,
    half_extent: float,
    samples: int,
    jitter: PerRay | float,
    occupied: OccupiedCells | None,
) -> Samples:
    """As `marching.march`, but all pieces are 2h/samples long, on oblique rays too.

    nerfacc never makes the samples of empty cells, so that many samples cost little.
    """
    from nerfacc.grid import traverse_grids  # type: ignore[import-untyped]

    near, far = ray_box(origins, directions, half_extent)
    thickness = 2 * half_extent / samples
    if occupied is None:
        occupied = torch.ones(1, 1, 1, dtype=torch.bool, device=near.device)
    shift = torch.as_tensor(jitter, dtype=near.dtype, device=near.device)
    intervals, found, _ = traverse_grids(
        origins.contiguous(),
        directions.contiguous(),
        occupied[None].contiguous(),
        torch.tensor([[-half_extent] * 3 + [half_extent] * 3], device=near.device),
        # A piece begins at `near` moved by less than one piece, so its middle is stratified.
        near_planes=near + (shift - 0.5) * thickness,
        far_planes=far,
        step_size=thickness,
    )
    start, end = intervals.vals[intervals.is_left], intervals.vals[intervals.is_right]
    return Samples(found.ray_indices, (start + end) / 2, end - start)
