"""What the loop costs over one written by hand with the same renderer, prior and method."""

import sys
from pathlib import Path
from time import process_time

import torch
from _report import machine, spread, write_section
from torch import Generator

from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.camera_sampling import CameraOptions, sample_cameras
from sd_core.distill import distill
from sd_core.guidance import GuidanceContext
from sd_core.prior import AbstractPrior, PriorContext
from sd_core.priors.gaussian_mixture import GaussianMixtureOptions
from sd_core.priors.gaussian_mixture import build as build_mixture
from sd_core.priors.image_bank import ImageBankPrior
from sd_core.prompts import PromptOptions
from sd_core.renderer import AbstractRenderer, RendererContext
from sd_core.renderers.affine import Affine, AffineOptions
from sd_core.step import Step

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from front_bias import VoxelGrid, cameras_at, true_pictures

PAIRS = 15
World = tuple[AbstractRenderer, AbstractPrior, CameraOptions]


def points() -> World:
    """The smallest scene there is: a step is nothing but overhead of torch."""
    prior = build_mixture(GaussianMixtureOptions(), PriorContext(torch.device("cpu")))
    context = RendererContext(prior.latent_shape, Generator(), torch.device("cpu"))
    return Affine(AffineOptions(), context), prior, Affine.default_cameras


def voxels() -> World:
    """The voxel grid of examples/front_bias.py."""
    prior = ImageBankPrior(true_pictures(cameras_at(torch.linspace(-3.0, 3.0, 100))))
    options = CameraOptions(batch=4, elevation_deg=(0.0, 0.0), distance=(2.0, 2.0))
    return VoxelGrid(size=40, samples=40), prior, options


def parts(world: World) -> tuple[SDS, torch.optim.Optimizer, Generator]:
    renderer, prior, _ = world
    prompt = PromptOptions(text="anything", views="none")
    method = SDS(SDSOptions(scale=1.0), GuidanceContext(prior, prompt, lambda name, _: method))
    optimiser = torch.optim.Adam(renderer.parameters(), lr=0.01)
    return method, optimiser, Generator().manual_seed(0)


def by_loop(world: World, steps: int) -> float:
    """Processor seconds of `distill`."""
    renderer, prior, cameras = world
    method, optimiser, generator = parts(world)
    began = process_time()
    for _ in distill(
        renderer=renderer,
        prior=prior,
        guidance=method,
        sample_cameras=lambda generator: sample_cameras(cameras, generator),
        optimiser=optimiser,
        generator=generator,
        steps=range(steps),
    ):
        pass
    return process_time() - began


def by_hand(world: World, steps: int) -> float:
    """Processor seconds of the same steps with no checks, logs or reports."""
    renderer, prior, cameras = world
    method, optimiser, generator = parts(world)
    began = process_time()
    for index in range(steps):
        views = sample_cameras(cameras, generator)
        latents = prior.encode(renderer(views).images)
        step = Step(index, steps)
        guided = method.gradient(latents.detach(), views, step=step, generator=generator)
        optimiser.zero_grad(set_to_none=True)
        latents.backward(guided.gradient / len(latents))
        optimiser.step()
    return process_time() - began


def compare(name: str, world: World, steps: int) -> str:
    """A row of the table, from pairs in turn, which of the two goes first changing each time."""
    by_loop(world, 3), by_hand(world, 3)
    hand, loop = [], []
    for pair in range(PAIRS):
        for run in (by_loop, by_hand) if pair % 2 else (by_hand, by_loop):
            (loop if run is by_loop else hand).append(1000 * run(world, steps) / steps)
    ratios = [100 * (b / a - 1) for a, b in zip(hand, loop, strict=True)]
    return f"| {name} | {spread(hand, 'ms')} | {spread(loop, 'ms')} | {spread(ratios, '%', 1)} |"


def main() -> None:
    torch.set_num_threads(1)
    rows = [compare("voxel grid 40³, 4 views of 32²", voxels(), 20)]
    rows.append(compare("64 points in the plane", points(), 200))
    write_section(
        "loop-overhead",
        f"""## The loop's own overhead

A step of `distill` against the same step written by hand, with SDS on an exact prior, in processor
time.

| scene | by hand | `distill` | overhead |
|---|---|---|---|
{chr(10).join(rows)}

Median of {PAIRS} pairs (least to most); goal on a scene worth rendering: < 3 %. `distill` also
checks the gradient, measures its norm and reports every step: a fixed cost, which shows only where
a step does next to nothing. {machine("sd-core", "torch")}. `nox -s benchmarks -- loop_overhead`
""",
    )


if __name__ == "__main__":
    main()
