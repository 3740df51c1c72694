"""Marching with nerfacc's traversal of occupancy grids, for CUDA."""

import logging
from importlib import import_module
from importlib.util import find_spec

import torch

from sd_core.errors import ConfigError
from sd_render.marching import PerRay, Rays, Samples
from sd_render.occupancy import OccupiedCells
from sd_render.ray_box import ray_box


def choose_marching(named: str, device: torch.device) -> str:
    """`batched` or `nerfacc`; a backend that was named and cannot be had is an error."""
    if named == "batched":
        return named
    installed = find_spec("nerfacc") is not None
    if named == "auto":
        if not installed or device.type != "cuda":
            return "batched"
        if (reason := _obstacle()) is None:
            return "nerfacc"
        logging.getLogger(__name__).warning("rays march without nerfacc, which %s", reason)
        return "batched"
    if not installed:
        raise ConfigError(
            "renderer.marching is nerfacc, which is not installed. Install it: "
            'pip install "sd-render[cuda]", or set renderer.marching = "batched".'
        )
    if device.type != "cuda":
        raise ConfigError(
            f"renderer.marching is nerfacc, which needs a CUDA device, but this is {device}. "
            'Set renderer.marching = "batched", or run.device = "cuda".'
        )
    if (reason := _obstacle()) is not None:
        raise ConfigError(
            f"renderer.marching is nerfacc, which {reason}. Install what it lacks, or set "
            'renderer.marching = "batched".'
        )
    return named


def _obstacle() -> str | None:
    """Why the nerfacc that is installed cannot be used on CUDA.

    Without the toolkit it can be imported all the same, which is slow, and fails in the first step.
    """
    try:
        code = import_module("nerfacc.cuda._backend")._C
    except (ImportError, OSError, RuntimeError) as error:  # torch's, of a build that failed
        return f"cannot be imported ({(str(error) or repr(error)).splitlines()[0]})"
    return "finds no CUDA toolkit (nvcc) to build its code with" if code is None else None


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
