"""Sixteen pictures of a biased prompt by VSD and by USD (RecDreamer, figures 13 and 14).

    python benchmarks/usd_pictures.py [--methods VSD] [--seeds 2] [--at-once 2] [--show-only]

Runs examples/usd_particles.toml with the rectifier at most as long as the rest (the paper), always
as long (its code), with noised templates in the place of matching, and only watching the pose,
which is VSD. Templates are true views. The figure has the classes that the classifier saw in each
interval of t; the table judges the pictures that came out beside renders of the true toy, since
the classifier's features are those of the toybox's own pose head. Resumable, from
runs/usd_pictures.
"""

import argparse
import json
import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from _report import machine, write_section
from _runs import commit_of, complete, finished, minutes
from _toys import template_folder

from sd_core.cameras import turntable
from sd_core.experiment import Experiment
from sd_core.pictures import contact_sheet, save_png
from sd_core.plugins import load_plugins
from sd_core.prior import PriorContext
from sd_core.prompts import folder_name
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import load_scene
from sd_core.shapes import Images
from sd_core.show import look
from sd_core.tables import markdown
from sd_toybox.meter.clip_pose_judge import ClipPoseJudge
from sd_toybox.meter.faces import best_poses, pose_entropy, pose_shares
from sd_toybox.meter.pose_judge import PoseReading, RenderPoseJudge, ToyName
from sd_toybox.model.folders import CLIP, shipped_folder
from sd_toybox.model.toybox_prior import ToyboxOptions, build
from sd_toybox.world.poses import POSES

ROOT = Path(__file__).parent.parent
RUNS, DOCS = ROOT / "runs" / "usd_pictures", ROOT / "docs"
EXPERIMENT = ROOT / "examples" / "usd_particles.toml"
METHODS: dict[str, tuple[str, ...]] = {
    "VSD": ("--set", "guidance.starts_at=1"),
    "USD, at most": ("--set", "guidance.limit=at-most"),
    "USD, equal": ("--set", "guidance.limit=equal"),
    "USD, noised templates": ("--set", "guidance.classifier={kind = 'noised'}"),
}
BEAR = ToyName("bear", "red")
INTERVALS = ((0, 250), (250, 500), (500, 750), (750, 1000))  # of t
CLASSES = POSES
ELEVATIONS = (-10.0, 10.0, 30.0)  # between which the world's photographers stand


@dataclass(frozen=True)
class Run:
    """One run, and where it is."""

    method: str
    seed: int

    @property
    def folder(self) -> Path:
        return RUNS / f"{folder_name(self.method)}-{self.seed}"

    def go(self, templates: Path) -> None:
        own = ("--set", f"guidance.classifier.templates={templates}")
        seed = ("--seed", str(self.seed))
        complete(self.folder, str(EXPERIMENT), *seed, *METHODS[self.method], *own)

    def seen(self, interval: tuple[int, int]) -> list[float]:
        """Mean shares of CLASSES at the steps whose t is in the interval."""
        inside = self._steps(interval)
        if not inside:
            return [0.0] * len(CLASSES)
        return [statistics.mean(step[f"seen_{name}"] for step in inside) for name in CLASSES]

    def corrections(self) -> str:
        """In each interval of t the median length of the rectifier beside the rest, unlimited."""
        found = [
            [step["correction"] for step in self._steps(interval) if "correction" in step]
            for interval in INTERVALS
        ]
        return " / ".join(f"{statistics.median(each):.1g}" if each else "-" for each in found)

    def _steps(self, interval: tuple[int, int]) -> list[dict[str, Any]]:
        lines = (self.folder / "log.jsonl").read_text("utf-8").splitlines()
        steps = [json.loads(line) for line in lines]
        return [step for step in steps if interval[0] <= step["t"] < interval[1]]

    def pictures(self) -> Images:
        """The sixteen, as they are at the end."""
        folder, table = RunFolder.open(self.folder)
        experiment = Experiment(table, load_plugins())
        scene = load_scene(folder, experiment, device=torch.device("cpu"))
        prior = build(ToyboxOptions(), PriorContext(torch.device("cpu")))
        return look(scene.renderer, turntable(16), prior.decode).images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--show-only", action="store_true", help="of what is finished")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    runs = [Run(method, seed) for seed in range(parsed.seeds) for method in parsed.methods]
    if parsed.show_only:
        runs = [run for run in runs if finished(run.folder)]
    if not runs:
        sys.exit("nothing is finished yet: run it without --show-only")
    templates = template_folder(RUNS / "templates", "bear", "red")
    with ThreadPoolExecutor(parsed.at_once) as pool:
        list(pool.map(partial(Run.go, templates=templates), runs))
    write_section("usd-pictures", _section(runs), DOCS / "results.md")
    _histograms(runs)
    sheet = contact_sheet(torch.cat([run.pictures() for run in runs if run.seed == 0]), 16)
    save_png(DOCS / "images" / "usd_pictures.png", sheet)


def _section(runs: list[Run]) -> str:
    head = ClipPoseJudge(shipped_folder() / CLIP, torch.device("cpu"))
    rows = []
    for run in runs:
        pictures = run.pictures()
        reading = _beside_renders(pictures)
        shares = pose_shares(best_poses(reading.posterior))
        by_head = head.read(pictures, BEAR, turntable(len(pictures))).posterior
        rows.append(
            [
                f"{run.method}, seed {run.seed}",
                *(f"{round(float(share) * len(pictures))}" for share in shares),
                f"{pose_entropy(shares):.2f}",
                f"{float(reading.likeness.mean()):.2f}",
                f"{pose_entropy(pose_shares(best_poses(by_head))):.2f}",
                run.corrections(),
                f"{minutes(run.folder):.1f}",
            ]
        )
    header = [
        "16 pictures by",
        *POSES,
        "entropy",
        "likeness",
        "by the head",
        "rectifier",
        "minutes",
    ]
    intervals = ", ".join(f"{begin} to {end}" for begin, end in INTERVALS)
    commits = ", ".join(sorted({commit_of(run.folder) for run in runs}))
    return "\n".join(
        [
            markdown(header, rows),
            "",
            "Of each picture the pose of the most similar render of the true toy, from elevations "
            f"of {', '.join(f'{each:g}°' for each in ELEVATIONS)}; entropy in nats, of 1.386 at "
            "most; likeness: the cosine with that render, 0.6 to 1 for a true view. By the head: "
            "the entropy as the toybox's pose head finds it, whose network the classifier's "
            f"features come from. Rectifier: its length beside the rest, unlimited, at t of "
            f"{intervals}: medians.",
            "",
            "![The sixteen pictures](images/usd_pictures.png)",
            "",
            "![Classes seen in each interval of t](images/usd_histograms.png)",
            "",
            f"{machine('sd-guidance-usd', 'sd-toybox', 'torch')}; commits {commits}; made by "
            "benchmarks/usd_pictures.py.",
        ]
    )


def _beside_renders(pictures: Images) -> PoseReading:
    """From the elevation at which each is most like the true toy; theirs is not known."""
    readings = []
    for elevation in ELEVATIONS:
        cameras = turntable(
            len(pictures), elevation_deg=elevation, distance=2.0, vertical_fov_deg=40.0
        )
        readings.append(RenderPoseJudge().read(pictures, BEAR, cameras))
    best = torch.stack([each.likeness for each in readings]).argmax(dim=0)
    rows = torch.arange(len(pictures))
    return PoseReading(
        torch.stack([each.posterior for each in readings])[best, rows],
        torch.stack([each.likeness for each in readings])[best, rows],
    )


def _histograms(runs: list[Run]) -> None:
    """Rows: methods. Columns: intervals of t. Bars: what the classifier saw, mean over seeds."""
    methods = list(dict.fromkeys(run.method for run in runs))
    size = (9, 1.25 * len(methods))
    figure, axes = plt.subplots(
        len(methods), len(INTERVALS), figsize=size, sharey=True, squeeze=False
    )
    for row, method in zip(axes, methods, strict=True):
        own = [run for run in runs if run.method == method]
        for axis, interval in zip(row, INTERVALS, strict=True):
            each = [run.seen(interval) for run in own]
            heights = [statistics.mean(shares) for shares in zip(*each, strict=True)]
            axis.bar(range(len(CLASSES)), heights, color="tab:blue")
            axis.axhline(1 / len(CLASSES), color="grey", linewidth=0.8)
            axis.set_xticks(range(len(CLASSES)), CLASSES)
            axis.set_title(f"t in {interval[0]} to {interval[1]}", fontsize=8)
            axis.tick_params(labelsize=7)
        row[0].set_ylabel(method, fontsize=7)
    figure.tight_layout()
    figure.savefig(DOCS / "images" / "usd_histograms.png", dpi=90)


if __name__ == "__main__":
    main()
