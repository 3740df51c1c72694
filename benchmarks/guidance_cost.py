"""What a whole step costs with each method, against SDS, on the toybox: network calls and time.

The scene, the VAE and the optimiser are in it, as users wait for them too; the scene is the same
for all. All methods take turns in one run, in both directions; a method is at the phase that it is
named after. The bridge has a bar of 2 %, which those turns cannot tell: it has pairs with SDS
alone besides, and so has its first phase, which is SDS to the bit.
"""

import statistics
from time import process_time
from typing import Any

import torch
from _report import machine, write_section
from torch import nn

from sd_core.building import build_prior, build_stage
from sd_core.experiment import Experiment
from sd_core.plugins import load_plugins
from sd_core.tables import markdown

ROUNDS, PAIRS = 36, 120
# A scene costs what it holds: so that methods differ in nothing else, it hardly moves.
UNMOVED = {"learning_rate": 1e-9}
METHODS: dict[str, dict[str, Any]] = {
    "sds": {"name": "sds"},
    "vsd": {"name": "vsd"},
    "esd": {"name": "esd"},
    "esd, λ = 1": {"name": "esd", "entropy_weight": 1},
    "bridge, first phase": {"name": "bridge", "switch_at": 1},
    "bridge": {"name": "bridge", "switch_at": 0},
    "bridge, full path of 10 + 10": {"name": "bridge", "switch_at": 0, "full_path": {"start": 0}},
    "usd": {"name": "usd"},
    "usd, jacobian vae": {"name": "usd", "jacobian": "vae"},
    "usd, jacobian none": {"name": "usd", "jacobian": "none"},
    "usd, noised templates": {"name": "usd", "classifier": {"kind": "noised"}},
    "usd, only watching": {"name": "usd", "jacobian": "none", "starts_at": 1},
    "jsd": {"name": "jsd"},
    "jsd, released": {"name": "jsd", "preset": "released"},
}


class Stepper:
    """One method on a scene and a prior of its own."""

    def __init__(self, guidance: dict[str, Any]) -> None:
        table = {
            "prompt": {"text": "a red bear", "views": "none"},
            "prior": {"name": "toybox"},
            "stages": [{"steps": 100_000, "guidance": guidance, "optimiser": UNMOVED}],
        }
        experiment = Experiment(table, load_plugins())
        self.prior = build_prior(experiment)
        self.stage = build_stage(experiment, 0, self.prior, None)
        self.samples = 0
        network: nn.Module = self.prior.inner.network  # type: ignore[attr-defined]
        network.register_forward_pre_hook(self._count)
        self._running = self.stage.distill(self.prior)

    def _count(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.samples += len(inputs[0])

    def go(self, steps: int) -> None:
        for _ in range(steps):
            next(self._running)

    def milliseconds(self) -> float:
        """Processor time of a step."""
        began = process_time()
        self.go(1)
        return 1000 * (process_time() - began)

    def forwards_per_view(self) -> float:
        """Samples through the network in one step, over the views of the step."""
        self.samples = 0
        self.go(1)
        return self.samples / self.stage.cameras.batch


def main() -> None:
    torch.set_num_threads(1)
    steppers = {name: Stepper(guidance) for name, guidance in METHODS.items()}
    for stepper in steppers.values():
        stepper.go(2)
    forwards = {name: stepper.forwards_per_view() for name, stepper in steppers.items()}
    taken: dict[str, list[float]] = {name: [] for name in steppers}
    for number in range(ROUNDS):
        turns = list(steppers.items())
        for name, stepper in turns if number % 2 else reversed(turns):
            taken[name].append(stepper.milliseconds())
    rows = []
    for name, times in taken.items():
        ratios, to_vsd = (
            [a / b for a, b in zip(times, taken[other], strict=True)] for other in ("sds", "vsd")
        )
        told = [_quartiles(times, "ms", 0), _quartiles(ratios, "×", 2), _quartiles(to_vsd, "×", 2)]
        rows.append([name, f"{forwards[name]:g}", *told])
    pairs = ", ".join(
        f"{name} {_paired(steppers[name], steppers['sds'])}"
        for name in ("bridge", "bridge, first phase")
    )
    header = ["method", "network forwards a view", "a step of four views", "against SDS", "VSD"]
    write_section(
        "guidance-cost",
        f"""## A step with each method

On the toybox with its voxel grid as it begins, everything included. Forwards count samples through
the network, those that train an estimator too.

{markdown(header, rows)}

Processor time of {ROUNDS} steps each, methods in turn; ratios to the same turn's step: medians
(quartiles). In turn with SDS alone, {PAIRS} pairs: {pairs}.
{machine("sd-core", "sd-toybox", "torch", "diffusers", "peft")}.
`nox -s benchmarks -- guidance_cost`
""",
    )


def _paired(stepper: Stepper, other: Stepper) -> str:
    """The ratio of single steps, each first in every other pair."""
    ratios = []
    for number in range(PAIRS):
        turns = (stepper, other) if number % 2 else (other, stepper)
        took = {turn: turn.milliseconds() for turn in turns}
        ratios.append(took[stepper] / took[other])
    return _quartiles(ratios, "×", 3)


def _quartiles(values: list[float], unit: str, digits: int) -> str:
    """`median (lower to upper quartile)`: a machine that others share has steps far out."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.{digits}f} {unit} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()
