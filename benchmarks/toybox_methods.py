"""Methods on the same prompts and seeds of the toybox, judged where the true poses are known.

    python benchmarks/toybox_methods.py [--methods sds vsd] [--seeds 3] [--prompts 10] [--show-only]
    python benchmarks/toybox_methods.py --methods esd-0 --prompts "a grey cat" "a yellow bus"

Runs `score-distill run` for each method, prompt and seed, one thread each, then `score-distill
evaluate`, keeps what was measured in records/toybox_methods.jsonl, and rewrites from it the tables
of docs/toybox.md (the failures: SDS and VSD) and of docs/results.md (all methods). What is recorded
is not run again, here or elsewhere, and what was stopped goes on where its folder is: it may be
stopped and started at any time.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _method_tables import DIVERSITY, tables
from _methods import METHODS
from _records import Records
from _report import machine, write_section
from _runs import commit_of, complete, finished, minutes, score_distill, weights
from _toys import TEMPLATES, template_folder

from sd_core.evaluation import Rings, ViewOptions
from sd_core.experiment import Experiment
from sd_core.pictures import contact_sheet, save_png
from sd_core.plugins import load_plugins
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import load_scene
from sd_core.shapes import Images
from sd_toybox.world.captions import parse_caption
from sd_toybox.world.pictures import world_pictures

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
IMAGES = ROOT / "docs" / "images"
RUNS = ROOT / "runs" / "toybox"

# Every kind and every colour at least once; the last two are of combinations that no picture of the
# training shows.
PROMPTS = (
    *("a red bear", "a blue penguin", "a purple robot", "a yellow bus", "a grey cat"),
    *("a green mug", "a pink rocket", "a brown house", "a green bear", "a red cat"),
)
FAILURES = ("sds", "vsd")
METRICS = ("janus-faces", "pose-consistency")
# Prompts and seeds whose views are shown in docs/, as far as they are there.
PICTURED = PROMPTS[:4], (0,)
SHOWN = {
    **dict.fromkeys(("sds", "vsd", "esd-1", "usd", "usd-esd-4-to-1"), PICTURED),
    "usd-esd-4-to-1-exact-noised": PICTURED,
    "usd-esd-high-t-first": (("a red bear", "a grey cat"), (0, 1, 2)),
}
COLUMNS = 8  # views around each object


@dataclass(frozen=True)
class Part:
    """All seeds of one prompt by one method."""

    method: str
    prompt: str

    def folder(self, seed: int) -> Path:
        return RUNS / self.method / f"{self.prompt.replace(' ', '_')}-{seed}"

    def measure(self, seeds: int) -> dict[str, Any]:
        """Run what is not finished; what the records keep of it."""
        told = [word.replace(TEMPLATES, str(self.templates())) for word in METHODS[self.method]]
        folders = [self.folder(seed) for seed in range(seeds)]
        for seed, folder in enumerate(folders):
            complete(
                folder,
                *("--prompt", self.prompt, "--seed", str(seed), *told),
                *("--prior", "toybox", "--set", "prompt.views=none"),
            )
        together = _evaluate(folders)
        (model,) = {weights(folder) for folder in folders}
        return {
            "method": self.method,
            "prompt": self.prompt,
            "told": list(METHODS[self.method]),
            "weights": model,
            "commit": ", ".join(sorted({commit_of(folder) for folder in folders})),
            "machine": machine("sd-toybox", "torch", "diffusers"),
            "seeds": [{**_values(each), "minutes": round(minutes(each), 2)} for each in folders],
            "together": together,
        }

    def templates(self) -> Path:
        """A folder with the toy's four sides."""
        toy = parse_caption(self.prompt)
        folder = RUNS / "templates" / self.prompt.replace(" ", "_")
        return template_folder(folder, str(toy.kind), str(toy.colour))


def _evaluate(folders: Sequence[Path]) -> dict[str, float]:
    """Each run by itself, and what is measured of several seeds together."""
    several = len(folders) > 1
    with TemporaryDirectory() as aside:
        report = Path(aside) / "report"
        names = ",".join([*METRICS, *(DIVERSITY if several else ())])
        told = ("--metrics", names, *(("--report", str(report)) if several else ()))
        score_distill("evaluate", *map(str, folders), *told)
        if not several:
            return {}
        recipe = json.loads((report / "report.json").read_text("utf-8"))["recipe"]
    ((_, found),) = recipe["methods"].items()
    return {name: round(found[name]["values"][name], 4) for name in DIVERSITY}


def _values(folder: Path) -> dict[str, float]:
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))["metrics"]
    found = [metrics[name]["values"].items() for name in METRICS]
    return {name: round(value, 4) for values in found for name, value in values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(METHODS),
        choices=list(METHODS),
        help="to run; the tables show all that is recorded",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prompts", nargs="+", default=["10"], help="so many of the ten, or which")
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--show-only", action="store_true", help="of what is recorded")
    parsed = parser.parse_args()
    records = Records("toybox_methods", "method", "prompt")
    # One prompt by every method before the next: whenever it is stopped, methods can be compared.
    parts = [
        Part(method, prompt) for prompt in _prompts(parsed.prompts) for method in parsed.methods
    ]
    _refuse_others(records)
    if not parsed.show_only:
        missing = [part for part in parts if not _recorded(records, part, parsed.seeds)]
        for part in missing:
            part.templates()  # before two runs of one prompt could make them at once
        records.collect([partial(part.measure, parsed.seeds) for part in missing], parsed.at_once)
        _refuse_others(records)
    told = sorted(records, key=lambda record: list(METHODS).index(record["method"]))
    failures = [record for record in told if record["method"] in FAILURES]
    for chosen, document in ((failures, "toybox.md"), (told, "results.md")):
        if chosen:
            write_section("methods", tables(chosen), DOCS / document)
    _picture()


def _prompts(told: Sequence[str]) -> Sequence[str]:
    if told[0].isdecimal():
        return PROMPTS[: int(told[0])]
    if unknown := set(told) - set(PROMPTS):
        sys.exit(f"not among the ten prompts: {', '.join(sorted(unknown))}")
    return told


def _recorded(records: Records, part: Part, seeds: int) -> bool:
    record = records.of(part.method, part.prompt)
    return record is not None and len(record["seeds"]) >= seeds


def _refuse_others(records: Records) -> None:
    """Runs of two models, or of another experiment, do not belong in one table."""
    models = Counter(record["weights"] for record in records)
    for record in records:
        told = list(METHODS.get(record["method"], ()))
        if record["told"] != told or record["weights"] != models.most_common(1)[0][0]:
            name = f"{record['method']}, {record['prompt']}"
            sys.exit(f"{records.path} holds another experiment, delete that line: {name}")


def _picture() -> None:
    """For each method one PNG: views around the true toy, and below around what was made of it."""
    for method, (prompts, seeds) in SHOWN.items():
        rows: list[Images] = []
        for prompt in prompts:
            folders = [Part(method, prompt).folder(seed) for seed in seeds]
            pairs = [_true_and_made(prompt, folder) for folder in folders if finished(folder)]
            if pairs:
                rows += [pairs[0][0], *(made for _, made in pairs)]
        if rows:
            path = IMAGES / f"toybox_{method}.png"
            save_png(path, contact_sheet(torch.cat(rows), COLUMNS))
            print(f"wrote {path}")


def _true_and_made(prompt: str, run: Path) -> tuple[Images, Images]:
    """From the same cameras, the front first."""
    folder, table = RunFolder.open(run)
    experiment = Experiment(table, load_plugins())
    scene = load_scene(folder, experiment, device=torch.device("cpu"))
    rings = Rings.seen_by(experiment.stages[scene.stage].cameras, ViewOptions(views=COLUMNS))
    made = scene.renderer.preview(rings.cameras()).images.clamp(0, 1)
    named = parse_caption(prompt)
    true = world_pictures(str(named.kind), str(named.colour), rings.cameras(), made.shape[-1])
    return true, made


if __name__ == "__main__":
    main()
