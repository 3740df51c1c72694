"""Methods on the same prompts and seeds of the toybox, judged where the true poses are known.

    python benchmarks/toybox_methods.py [--methods sds vsd] [--seeds 3] [--prompts 10] [--show-only]

Runs `score-distill run` for each method, prompt and seed, one thread each, then `score-distill
evaluate`, keeps what was measured in records/toybox_methods.jsonl, and rewrites from it the tables
of docs/toybox.md (the failures: SDS and VSD) and of docs/results.md (all methods). What is recorded
is not run again, here or elsewhere, and what was stopped goes on where its folder is: it may be
stopped and started at any time.
"""

import argparse
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _methods import METHODS
from _records import Records, made_with
from _report import machine, write_section
from _runs import commit_of, complete, finished, minutes, score_distill, weights
from _toys import TEMPLATES, template_folder

from sd_core.evaluation import Rings, ViewOptions
from sd_core.experiment import Experiment
from sd_core.pictures import contact_sheet, save_png
from sd_core.plugins import load_plugins
from sd_core.report import bootstrap_interval
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import load_scene
from sd_core.shapes import Images
from sd_core.tables import markdown
from sd_toybox.world.captions import parse_caption
from sd_toybox.world.pictures import world_pictures
from sd_toybox.world.poses import POSES

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
# Of all seeds of a prompt together (JSD's table 2): every run begins with the same grey ball.
DIVERSITY = ("iv-particles", "feature-similarity")
PICTURED = PROMPTS[:4], 0  # the prompts and the seed whose views are shown
SHOWN = ("sds", "vsd", "esd-1")  # in docs/
COLUMNS = 8  # views around each object

# A run fails where its object is not one with a single face whose sides follow one another: true
# objects have 1 face and a consistency above 0.95.
LEAST_CONSISTENCY = 0.8
# Faces are compared where both objects show the toy in at least this share of their views: a view
# that shows none parts one face from another, and a blurred object has other numbers of them.
WHOLE = 0.9

HEADER = (
    *("method", "runs", "failed", "seen", "front of seen", "faces: 0, 1, 2, 3, 4"),
    *("pose entropy", "consistency", "likeness", "IV of seeds", "alike", "minutes"),
)
CAPTION = (
    "Mean ± standard deviation over runs. A true object has 1 face, an entropy of 1.39, a "
    "consistency of 1, and is seen in all views, a quarter of them from the front. A run failed "
    f"where it has not 1 face, or a consistency below {LEAST_CONSISTENCY}. Seen: the share of "
    "views that show the toy at all; front of seen: of these, the front. IV of seeds: the entropy "
    "of what CLIP says of all seeds of a prompt, in nats; alike: the mean cosine of two seeds' "
    "features. Minutes are the median of a run on one thread, with whatever else the machine did "
    "at that time."
)
BESIDE_VSD = (
    *("less VSD", "prompts", "faces: fewer, as many, more", "pose entropy", "consistency"),
    *("likeness", "seen", "IV of seeds", "alike"),
)
CAPTION_BESIDE_VSD = (
    "Each method less VSD on the same prompts, the mean over seeds first: mean over prompts, and "
    "its 95 % bootstrap interval. Faces: by run, where both objects are seen in at least "
    f"{WHOLE:.0%} of the views."
)


Record = Mapping[str, Any]


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
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="so many of the ten")
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--show-only", action="store_true", help="of what is recorded")
    parsed = parser.parse_args()
    records = Records("toybox_methods", "method", "prompt")
    # One prompt by every method before the next: whenever it is stopped, methods can be compared.
    parts = [
        Part(method, prompt) for prompt in PROMPTS[: parsed.prompts] for method in parsed.methods
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
            write_section("methods", _section(chosen), DOCS / document)
    _picture()


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


def _section(records: Sequence[Record]) -> str:
    """A row for each method, and what lies between it and VSD."""
    of_methods: dict[str, dict[str, Record]] = {}
    for record in records:
        of_methods.setdefault(record["method"], {})[record["prompt"]] = record
    rows = [[method, *_row(list(own.values()))] for method, own in of_methods.items()]
    parts = [markdown(HEADER, rows), CAPTION]
    others = [method for method in of_methods if method != "vsd"]
    if "vsd" in of_methods and len(others) > 1:
        vsd = of_methods["vsd"]
        differences = [[method, *_less(of_methods[method], vsd)] for method in others]
        parts += [markdown(BESIDE_VSD, differences), CAPTION_BESIDE_VSD]
    made = f"{made_with(records)}; made by benchmarks/toybox_methods.py."
    return "\n\n".join([*parts, made])


def _row(own: Sequence[Record]) -> tuple[str, ...]:
    values = [seed for record in own for seed in record["seeds"]]
    faces = Counter(min(4, round(each["janus-faces"])) for each in values)
    failed = sum(
        each["janus-faces"] != 1 or each["pose-consistency"] < LEAST_CONSISTENCY for each in values
    )
    fronts = [each["front-share"] / _seen(each) for each in values if _seen(each)]
    names = ("pose-entropy", "pose-consistency", "likeness")
    together = [record["together"] for record in own if record["together"]]
    return (
        str(len(values)),
        f"{failed} ({failed / len(values):.0%})",
        _mean([_seen(each) for each in values]),
        _mean(fronts) if fronts else "",
        ", ".join(str(faces[count]) for count in range(5)),
        *(_mean([each[name] for each in values]) for name in names),
        *(_mean([each[name] for each in together]) if together else "" for name in DIVERSITY),
        f"{statistics.median(each['minutes'] for each in values):.1f}",
    )


def _less(own: Mapping[str, Record], vsd: Mapping[str, Record]) -> tuple[str, ...]:
    """Of the prompts that both have."""
    pairs = [(record, vsd[prompt]) for prompt, record in own.items() if prompt in vsd]
    counts = [0, 0, 0]
    for one, other in pairs:
        for a, b in zip(one["seeds"], other["seeds"], strict=False):
            if min(_seen(a), _seen(b)) >= WHOLE:
                fewer, more = (sign * (b["janus-faces"] - a["janus-faces"]) > 0 for sign in (1, -1))
                counts[1 + more - fewer] += 1
    measures: list[Callable[[Record], float]] = [
        *(partial(_of_seeds, name) for name in ("pose-entropy", "pose-consistency", "likeness")),
        lambda record: statistics.mean(map(_seen, record["seeds"])),
        *(partial(_of_all, name) for name in DIVERSITY),
    ]
    told = [_interval([of(one) - of(other) for one, other in pairs]) for of in measures]
    return str(len(pairs)), ", ".join(map(str, counts)), *told


def _of_seeds(name: str, record: Record) -> float:
    return statistics.mean(each[name] for each in record["seeds"])


def _of_all(name: str, record: Record) -> float:
    value: float = record["together"][name]
    return value


def _interval(differences: Sequence[float]) -> str:
    """Their mean, and where it may lie."""
    numbers = [statistics.mean(differences), *(bootstrap_interval(differences) or ())]
    mean, *between = [f"{round(number, 2) + 0.0:+.2f}" for number in numbers]  # no -0.00
    return f"{mean} ({' to '.join(between)})" if between else mean


def _seen(values: Mapping[str, float]) -> float:
    """The share of views that show the toy, from whichever side."""
    return sum(values[f"{pose}-share"] for pose in POSES)


def _mean(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {spread:.2f}"


def _picture() -> None:
    """For each method one PNG: views around the true toy, and below around what was made of it."""
    prompts, seed = PICTURED
    for method in SHOWN:
        folders = {prompt: Part(method, prompt).folder(seed) for prompt in prompts}
        if all(map(finished, folders.values())):
            rows = [row for prompt in prompts for row in _true_and_made(prompt, folders[prompt])]
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
