"""What a step of SDS and of VSD costs on a Stable Diffusion pipeline: network passes, time, memory.

On the tiny random-weight pipeline of the tests, or on the model of the experiment given as
`--model`; the passes are the same, the milliseconds are not.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import torch
from _report import machine, spread, write_section
from torch import Generator, nn

from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.cameras import turntable
from sd_core.estimator import EstimatorOptions
from sd_core.guidance import AbstractGuidance, GuidanceContext
from sd_core.prior import PriorContext
from sd_core.priors.diffusion.dry_run import LiveBytes
from sd_core.priors.diffusion.stable_diffusion import StableDiffusionOptions, build
from sd_core.prompts import PromptOptions
from sd_core.step import Step
from sd_core.testing.tiny_pipelines import save_tiny_pipeline

ROUNDS, STEPS = 9, 10
# Samples through the network a step and image, as methods of the published codes count them.
PUBLISHED = {
    "SDS": "2 frozen (threestudio)",
    "VSD": "2 frozen + 1 or 2 of the estimator + 1 trained",
    "VSD, shared t and noise": "not published",
}
METHODS: dict[str, Callable[[GuidanceContext], AbstractGuidance]] = {
    "SDS": lambda context: SDS(SDSOptions(), context),
    "VSD": lambda context: VSD(VSDOptions(), context),
    "VSD, shared t and noise": lambda context: VSD(
        VSDOptions(estimator=EstimatorOptions(shared_noise=True, camera_dropout=0.0)), context
    ),
}


class Passes:
    """Counts the calls of a network and the samples that went through."""

    def __init__(self, network: nn.Module) -> None:
        self.calls = self.samples = 0
        network.register_forward_pre_hook(self._count)

    def _count(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.calls += 1
        self.samples += len(inputs[0])


def seconds_now(device: torch.device) -> float:
    """Of this process, which others do not slow; on CUDA, whose work goes on beside it, by the
    clock, when that work is done."""
    if device.type != "cuda":
        return process_time()
    torch.cuda.synchronize(device)
    return perf_counter()


def step(method: AbstractGuidance, latents: torch.Tensor, generator: Generator) -> None:
    """One step without the scene."""
    cameras = turntable(len(latents)).to(latents.device)
    now = Step(0, 100)
    guided = method.gradient(latents, cameras, step=now, generator=generator)
    method.update_estimator(latents, cameras, guided, step=now, generator=generator)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="instead of the tiny one")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        model = parsed.model or str(
            save_tiny_pipeline(Path(folder) / "tiny", "sd1", sample_size=16)
        )
        prior = build(StableDiffusionOptions(model=model), PriorContext(device))
        methods = {}
        for name, make in METHODS.items():
            prompt = PromptOptions(text="a red bear")
            methods[name] = make(GuidanceContext(prior, prompt, lambda name, _: methods[name]))
        passes = Passes(prior.network)
        generator = Generator(device).manual_seed(0)
        latents = torch.randn(1, *prior.latent_shape, generator=generator, device=device)
        counted, peaks, seconds = {}, {}, {name: [] for name in methods}
        for name, method in methods.items():
            step(method, latents, generator)
            passes.calls = passes.samples = 0
            step(method, latents, generator)
            counted[name] = (passes.calls, passes.samples)
            alive = LiveBytes()
            with alive:
                step(method, latents, generator)
            peaks[name] = alive.peak / 2**20
        for _ in range(ROUNDS):
            for name, method in methods.items():
                began = seconds_now(device)
                for _ in range(STEPS):
                    step(method, latents, generator)
                seconds[name].append(1000 * (seconds_now(device) - began) / STEPS)
    rows = []
    for name in methods:
        ratios = [a / b for a, b in zip(seconds[name], seconds["SDS"], strict=True)]
        calls, samples = counted[name]
        cells = [name, str(calls), str(samples), PUBLISHED[name], f"{peaks[name]:.1f} MiB"]
        cells += [spread(seconds[name], "ms", 1), spread(ratios, "×", 2)]
        rows.append("| " + " | ".join(cells) + " |")
    which = f"the model {parsed.model}" if parsed.model else "the tiny pipeline of the tests"
    time = "wall" if device.type == "cuda" else "processor"
    tiny = "" if parsed.model else " The network is tiny: the ratios say little of a real one."
    write_section(
        "prior-cost",
        f"""## A step on a Stable Diffusion pipeline

One view a step, latents of {tuple(latents.shape[1:])}, {which}, on {device.type},
without the scene.

| method | calls | samples | published codes | tensors alive | time | against SDS |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

Calls of the network, samples through it, the most bytes of tensors alive at once. Median of
{ROUNDS} rounds of {STEPS} steps, methods in turn (least to most), in {time} time.{tiny}
{machine("sd-core", "torch", "diffusers", "peft")}. `nox -s benchmarks -- prior_cost`
""",
    )


if __name__ == "__main__":
    main()
