"""The world of examples/one_face.py: its mix on many seeds, and what it is made of alone.

    python benchmarks/one_face_seeds.py [--seeds 20] [--others 3] [--show-only]

Rewrites the table of docs/janus.md and its picture from the run folders alone; what is finished is
not run again, and what was stopped goes on.
"""

import argparse
import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from _report import machine, write_section
from _runs import complete, finished, minutes
from torch import Generator

from sd_core.cameras import turntable
from sd_core.noising import NoiseSchedule
from sd_core.pictures import contact_sheet, save_png
from sd_core.prompts import folder_name
from sd_core.tables import markdown

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from one_face import (
    EXPERIMENT,
    VIEWS,
    Measured,
    biased_azimuths,
    cameras_at,
    measure,
    quarter_of,
    true_pictures,
    views_of,
)
from one_face import write_pictures as write_bank

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs" / "one_face"
DOCUMENT, PICTURE = ROOT / "docs" / "janus.md", ROOT / "docs" / "images" / "one_face.png"

# The same t for all, and no guidance.
PLAIN = (
    *("--set", "guidance.scale=1", "--set", "guidance.timesteps.schedule=hard-switch"),
    *("--set", "guidance.timesteps.switch_at=0.5"),
)
ESD_4_TO_1 = (
    *("--set", "guidance.entropy_weight=4", "--set", "guidance.entropy_weight_end=1"),
    *("--set", "guidance.entropy_weight_until=0.6"),
)
MIX = "USD's target, ESD's source"
# With the exact estimator, USD is its target with SDS's source.
METHODS: dict[str, tuple[str, ...]] = {
    "SDS": ("--guidance", "sds", *PLAIN),
    "ESD, λ = 1": ("--guidance", "esd", *PLAIN, "--set", "guidance.entropy_weight=1"),
    "ESD, λ from 4 to 1": ("--guidance", "esd", *PLAIN, *ESD_4_TO_1),
    "USD, running marginal": (
        *("--set", "guidance.source=sds", "--set", "guidance.options.usd.marginal=running"),
    ),
    "USD, the prior's marginal": ("--set", "guidance.source=sds"),
    MIX: (),
    "the same, pictures in [-1, 1]": ("--set", "prior.contrast=1"),
    "the same, from a small hard ball": (
        *("--set", "renderer.blob_radius=0.5", "--set", "renderer.blob_strength=10"),
        *("--set", "renderer.density_unit=10"),
    ),
    "the same, a camera in each twelfth": ("--set", "stages.0.cameras.stratified_azimuth=true"),
}
# Of a true object 1.386 and 1: the face is whole, and all follows from it.
LEAST_ENTROPY, LEAST_CONSISTENCY = 1.3, 0.9
VIEW_PIXELS = 64  # of previews


@dataclass(frozen=True)
class Run:
    """One run of the study, and where it is."""

    method: str
    seed: int

    @property
    def folder(self) -> Path:
        return RUNS / f"{folder_name(self.method)}-{self.seed}"

    def go(self) -> None:
        bank = ("--set", f"prior.folder={RUNS / 'pictures'}")
        seed = ("--seed", str(self.seed))
        complete(self.folder, str(EXPERIMENT), *seed, *METHODS[self.method], *bank)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, default=20, help="of the mix")
    parser.add_argument("--others", type=int, default=3, help="seeds of each other method")
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--show-only", action="store_true", help="of what is finished")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    write_bank(RUNS / "pictures")
    # One seed of everything before the next.
    runs = [
        Run(method, seed)
        for seed in range(parsed.seeds)
        for method in METHODS
        if method == MIX or seed < parsed.others
    ]
    if parsed.show_only:
        runs = [run for run in runs if finished(run.folder)]
    if not runs:
        sys.exit("nothing is finished yet: run it without --show-only")
    with ThreadPoolExecutor(parsed.at_once) as pool:
        for run, _ in zip(runs, pool.map(Run.go, runs), strict=True):
            print(f"{run.method}, seed {run.seed}", flush=True)
    write_section("one-face", _section(runs), DOCUMENT)
    _draw(runs)


def _section(runs: list[Run]) -> str:
    rows = []
    true = measure(true_pictures(cameras_at(turntable(VIEWS).azimuth), VIEW_PIXELS))
    for method in METHODS:
        own = [run for run in runs if run.method == method]
        if not own:
            continue
        found = [measure(views_of(run.folder, VIEWS)) for run in own]
        shares = " / ".join(
            f"{statistics.mean(one.shares[quarter] for one in found):.0%}" for quarter in range(4)
        )
        taken = statistics.median(minutes(run.folder) for run in own)
        rows.append(
            [
                method,
                str(len(own)),
                f"{sum(map(_one_face, found))} of {len(found)}",
                _range([one.entropy for one in found]),
                _range([one.consistency for one in found]),
                shares,
                f"{taken:.1f}",
            ]
        )
    header = ["method", "seeds", "one face", "entropy", "consistency"]
    header += ["front / left / back / right", "minutes"]
    return "\n".join(
        [
            markdown(header, rows),
            "",
            f"Median (least to most) of {VIEWS} views; measured the same way the true object has "
            f"an entropy of {true.entropy:.3f} and a consistency of {true.consistency:.3f}. One "
            f"face: at least {LEAST_ENTROPY} and {LEAST_CONSISTENCY}. Shares are means, minutes "
            "medians of a run on one thread beside other work.",
            "",
            "Noise hides which of two unlike views it was, (α/σ)²·|x_i - x_j|² ≤ 1 for the median "
            f"distance of a front and another picture, at {_hidden(1.0):.0%} of t with pictures in "
            f"[-1, 1] and at {_hidden(0.5):.0%} in [-½, ½].",
            "",
            f"{machine('sd-guidance-usd', 'torch')}; made by benchmarks/one_face_seeds.py.",
        ]
    )


def _hidden(contrast: float) -> float:
    """The share of t at which the noise hides a front from another picture of the bank."""
    azimuths = biased_azimuths(Generator().manual_seed(0))
    pictures = 2 * contrast * true_pictures(cameras_at(azimuths)).flatten(1)
    front = quarter_of(azimuths) == 0
    squared = torch.cdist(pictures[front], pictures[~front]).square().median()
    schedule = NoiseSchedule.scaled_linear()
    ratio = (schedule.alphas / schedule.sigmas).square()
    return float((ratio * squared <= 1).float().mean())


def _one_face(found: Measured) -> bool:
    return found.entropy >= LEAST_ENTROPY and found.consistency >= LEAST_CONSISTENCY


def _range(values: list[float]) -> str:
    least, most = min(values), max(values)
    return f"{statistics.median(values):.2f} ({least:.2f} to {most:.2f})"


def _draw(runs: list[Run]) -> None:
    """The true object, the first seed of each method, and two more of the mix."""
    shown = [run for run in runs if run.seed == 0]
    shown += [run for run in runs if run.method == MIX and run.seed in (1, 2)]
    made = [views_of(run.folder, 8) for run in shown]
    true = true_pictures(cameras_at(turntable(8).azimuth), made[0].shape[-1])
    save_png(PICTURE, contact_sheet(torch.cat([true, *made]), 8))
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
