"""One face on toys of the toybox's world, by the exact prior of their pictures, on several seeds.

    python benchmarks/one_toy.py [--toys 2] [--seeds 3] [--others 1] [--show-only]

Writes 4,000 pictures of each toy under runs/one_toy, at the world's rates, and runs
examples/one_toy.toml on them, and with other schedules of t and fewer pictures. Keeps what
was measured in records/one_toy.jsonl, from which it rewrites its section of docs/janus.md, and its
picture from the run folders; what is recorded is not run again. A quarter of an hour a run.
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _records import Records, made_with
from _report import machine, write_section
from _runs import commit_of, complete, finished, minutes, score_distill
from torch import Generator

from sd_core.atomic import new_folder
from sd_core.cameras import CameraBatch, turntable
from sd_core.experiment import Experiment
from sd_core.pictures import contact_sheet, save_png
from sd_core.plugins import load_plugins
from sd_core.prompts import folder_name
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import load_scene
from sd_core.shapes import Images
from sd_core.tables import markdown
from sd_toybox.world.pictures import world_pictures
from sd_toybox.world.poses import POSES, pose_indices
from sd_toybox.world.samples import sample_world_cameras

ROOT = Path(__file__).parent.parent
EXPERIMENT = ROOT / "examples" / "one_toy.toml"
RUNS = ROOT / "runs" / "one_toy"
DOCUMENT, PICTURE = ROOT / "docs" / "janus.md", ROOT / "docs" / "images" / "one_toy.png"

TOYS = (("bear", "red"), ("penguin", "blue"))
PIXELS, PICTURES, FEW = 48, 4000, 600
VIEWS = 8  # shown around an object

WHOLE = "all sides first, 4,000 pictures"
_SCHEDULE = "guidance.options.esd.timesteps.schedule"
VARIANTS: dict[str, tuple[str, ...]] = {
    WHOLE: (),
    "all sides first, 600 pictures": (),
    "t as in one_face.toml": (
        *("--set", f"{_SCHEDULE}=hard-switch"),
        *("--set", "guidance.options.esd.timesteps.switch_at=0.5"),
    ),
}
# As the toybox's study has it: true objects have 1 face and a consistency above 0.95.
LEAST_CONSISTENCY = 0.8


@dataclass(frozen=True)
class Run:
    """One run of the study, and where it is."""

    variant: str
    kind: str
    colour: str
    seed: int

    @property
    def prompt(self) -> str:
        return f"a {self.colour} {self.kind}"

    @property
    def folder(self) -> Path:
        toy = self.prompt.replace(" ", "_")
        return RUNS / folder_name(self.variant) / f"{toy}-{self.seed}"

    @property
    def bank(self) -> Path:
        few = "_few" if "600" in self.variant else ""
        return RUNS / f"{self.prompt.replace(' ', '_')}{few}"

    def measure(self) -> dict[str, Any]:
        """Run it, unless it is finished; what the records keep of it."""
        told = ("--set", f"prior.folder={self.bank}", "--prompt", self.prompt)
        complete(
            self.folder, str(EXPERIMENT), *told, "--seed", str(self.seed), *VARIANTS[self.variant]
        )
        if not (self.folder / "metrics.json").is_file():
            score_distill("evaluate", str(self.folder), "--metrics", "janus-faces,pose-consistency")
        metrics = json.loads((self.folder / "metrics.json").read_text("utf-8"))["metrics"]
        found = {key: value for each in metrics.values() for key, value in each["values"].items()}
        return {
            "variant": self.variant,
            "prompt": self.prompt,
            "seed": self.seed,
            "told": list(VARIANTS[self.variant]),
            "experiment": _experiment_digest(),
            "commit": commit_of(self.folder),
            "machine": machine("sd-guidance-usd", "sd-toybox", "torch"),
            "minutes": round(minutes(self.folder), 2),
            **{name: round(value, 4) for name, value in found.items()},
        }


def _experiment_digest() -> str:
    return hashlib.sha256(EXPERIMENT.read_bytes()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--toys", type=int, default=len(TOYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--others", type=int, default=1, help="seeds of the other variants")
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--show-only", action="store_true", help="of what is recorded")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    runs = [
        Run(variant, kind, colour, seed)
        for seed in range(parsed.seeds)
        for kind, colour in TOYS[: parsed.toys]
        for variant in VARIANTS
        if variant == WHOLE or seed < parsed.others
    ]
    records = Records("one_toy", "variant", "prompt", "seed")
    for record in records:
        now = (list(VARIANTS.get(record["variant"], ())), _experiment_digest())
        if (record["told"], record["experiment"]) != now:
            name = f"{record['variant']}, {record['prompt']}, seed {record['seed']}"
            sys.exit(f"{records.path} holds another experiment, delete that line: {name}")
    if not parsed.show_only:
        missing = [run for run in runs if not records.of(run.variant, run.prompt, run.seed)]
        for run in missing:
            write_bank(run.bank, run.kind, run.colour, FEW if "600" in run.variant else PICTURES)
        records.collect([run.measure for run in missing], parsed.at_once)
    if not list(records):
        sys.exit("nothing is recorded yet: run it without --show-only")
    write_section("one-toy", _section(list(records)), DOCUMENT)
    _draw(runs)


def write_bank(folder: Path, kind: str, colour: str, count: int) -> None:
    """Pictures from where the world's photographers stand, with captions; once."""
    if folder.is_dir():
        return
    cameras = sample_world_cameras(count, Generator().manual_seed(0))
    poses = pose_indices(cameras.azimuth).tolist()
    captions = {}
    with new_folder(folder) as aside:
        for begin in range(0, count, 100):
            some = cameras.select(slice(begin, min(begin + 100, count)))
            for place, picture in enumerate(world_pictures(kind, colour, some, PIXELS), begin):
                name, prompt = f"{place:04d}.png", f"a {colour} {kind}"
                save_png(aside / name, picture[None])
                captions[name] = [prompt, f"{prompt}, {POSES[poses[place]]} view"]
        (aside / "captions.json").write_text(json.dumps(captions, indent=1), "utf-8")


def _section(records: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for variant in VARIANTS:
        own = [record for record in records if record["variant"] == variant]
        if not own:
            continue
        names = ("janus-faces", "pose-entropy", "pose-consistency", "minutes")
        told = [_range([each[name] for each in own]) for name in names]
        one = [r["janus-faces"] == 1 and r["pose-consistency"] >= LEAST_CONSISTENCY for r in own]
        rows.append([variant, f"{sum(one)} of {len(own)}", *told])
    toys = ", ".join(dict.fromkeys(record["prompt"] for record in records))
    return "\n".join(
        [
            markdown(["", "one face", "faces", "entropy", "consistency", "minutes"], rows),
            "",
            f"Median (least to most) over {toys} and seeds, by the toybox's meter. One face: a "
            f"consistency of at least {LEAST_CONSISTENCY}, too.",
            "",
            f"{made_with(records)}; made by benchmarks/one_toy.py.",
        ]
    )


def _range(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def _draw(runs: Sequence[Run]) -> None:
    """For each toy the truth, and the first seed of each variant below it."""
    rows: list[Images] = []
    for kind, colour in dict.fromkeys((run.kind, run.colour) for run in runs):
        own = [r for r in runs if (r.kind, r.colour, r.seed) == (kind, colour, 0)]
        made = [_views(run) for run in own if finished(run.folder)]
        if made:
            rows += [_true(kind, colour, made[0].shape[-1]), *made]
    if rows:
        save_png(PICTURE, contact_sheet(torch.cat(rows), VIEWS))
        print(f"wrote {PICTURE}")


def _views(run: Run) -> Images:
    folder, table = RunFolder.open(run.folder)
    scene = load_scene(folder, Experiment(table, load_plugins()), device=torch.device("cpu"))
    return scene.renderer.preview(_ring()).images.clamp(0, 1)


def _true(kind: str, colour: str, pixels: int) -> Images:
    return world_pictures(kind, colour, _ring(), pixels)


def _ring() -> CameraBatch:
    return turntable(VIEWS, elevation_deg=10.0, distance=2.0, vertical_fov_deg=40.0)


if __name__ == "__main__":
    main()
