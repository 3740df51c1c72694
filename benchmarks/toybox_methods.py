"""Methods on the same prompts and seeds of the toybox, judged where the true poses are known.

    python benchmarks/toybox_methods.py [--methods sds vsd] [--seeds 3] [--prompts 10] [--show-only]

Runs `score-distill run` for each method, prompt and seed, one thread each, then `score-distill
evaluate`, and rewrites the tables of docs/toybox.md (the failures: SDS and VSD) and of
docs/results.md (all methods) from the run folders alone. What is finished is not run again, and
what was stopped goes on: it may be stopped and started at any time.
"""

import argparse
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from _report import machine, write_section
from _runs import complete, finished, minutes, score_distill, weights
from _toys import template_folder

from sd_core.evaluation import Rings, ViewOptions
from sd_core.experiment import Experiment
from sd_core.pictures import contact_sheet, save_png
from sd_core.plugins import load_plugins
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import load_scene
from sd_core.shapes import Images
from sd_core.tables import markdown
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
# Without classifier-free guidance, and with the renders themselves as the estimator: what a method
# does when nothing but its formula is in it.
EXACT = ("--set", "guidance.scale=1", "--set", "prior.estimator.kind=renders")
# Where the pictures of a toy's four sides are, in the place of this word.
TEMPLATES = "TEMPLATES"


def matching(where: str) -> tuple[str, ...]:
    """USD's classifier, with what suits the toybox's features."""
    values = {"augmentations": "0", "patch_temperature": "0.2", "templates": TEMPLATES}
    told = [f"{where}.classifier.{key}={value}" for key, value in values.items()]
    words = [*told, f"{where}.jacobian=vae", f"{where}.classifier.mirrored=[]"]
    return tuple(word for each in words for word in ("--set", each))


METHODS: dict[str, tuple[str, ...]] = {
    "sds": ("--guidance", "sds"),
    "vsd": ("--guidance", "vsd"),
    # VSD's formula with the estimator taught as in ESD's algorithm 1.
    "esd-0": ("--guidance", "esd", "--set", "guidance.entropy_weight=0"),
    "esd-0.25": ("--guidance", "esd", "--set", "guidance.entropy_weight=0.25"),
    "esd-0.5": ("--guidance", "esd", "--set", "guidance.entropy_weight=0.5"),
    "esd-1": ("--guidance", "esd", "--set", "guidance.entropy_weight=1"),
    "bridge": ("--guidance", "bridge"),
    "jsd": ("--guidance", "jsd"),
    "vsd-exact": ("--guidance", "vsd", *EXACT),  # which is SDS at scale 1, to the bit
    "esd-0.25-exact": ("--guidance", "esd", "--set", "guidance.entropy_weight=0.25", *EXACT),
    "esd-0.5-exact": ("--guidance", "esd", "--set", "guidance.entropy_weight=0.5", *EXACT),
    "esd-1-exact": ("--guidance", "esd", "--set", "guidance.entropy_weight=1", *EXACT),
    "esd-4-to-1-exact": (
        *("--guidance", "esd", "--set", "guidance.entropy_weight=4"),
        *("--set", "guidance.entropy_weight_end=1", "--set", "guidance.entropy_weight_until=0.6"),
        *EXACT,
    ),
    # Templates are true views: the prior's own pictures of "back view" show the front. The
    # rectifier is as long as the rest, as in RecDreamer's code.
    "usd": ("--guidance", "usd", *matching("guidance"), "--set", "guidance.limit=equal"),
    "usd-esd-4-to-1-exact": (
        *("--guidance", "mix", "--set", "guidance.noising=esd"),
        *("--set", "guidance.target=usd", "--set", "guidance.source=esd"),
        *("--set", "prior.estimator.kind=renders", "--set", "guidance.options.usd.scale=1"),
        *("--set", "guidance.options.usd.marginal=prior"),
        *("--set", "guidance.options.usd.limit=none"),
        *("--set", "guidance.options.esd.entropy_weight=4"),
        *("--set", "guidance.options.esd.entropy_weight_end=1"),
        *("--set", "guidance.options.esd.entropy_weight_until=0.6"),
        *matching("guidance.options.usd"),
    ),
}
FAILURES = ("sds", "vsd")
METRICS = ("janus-faces", "pose-consistency")
# Of all seeds of a prompt together (JSD's table 2): every run begins with the same grey ball.
DIVERSITY = ("iv-particles", "feature-similarity")
PICTURED = PROMPTS[:4], 0  # the prompts and the seed whose views are shown
COLUMNS = 8  # views around each object

# A run fails where its object is not one with a single face whose sides follow one another: true
# objects have 1 face and a consistency above 0.95.
LEAST_CONSISTENCY = 0.8

HEADER = (
    *("method", "runs", "failed", "faces: 0, 1, 2, 3, 4", "than VSD", "views of the front"),
    *("pose entropy", "consistency", "likeness", "IV of seeds", "alike", "minutes"),
)
CAPTION = (
    "Mean ± standard deviation over runs. A true object has 1 face, an entropy of 1.39, a "
    "consistency of 1 and a quarter of its views at the front. A run failed where it has not 1 "
    f"face, or a consistency below {LEAST_CONSISTENCY}. Than VSD: how often fewer faces, as many, "
    "and more than VSD's on the same prompt and seed, where both have any. IV of seeds: the "
    "entropy of what CLIP says of all seeds of a prompt, in nats; alike: the mean cosine of two "
    "seeds' features; of prompts with two seeds or more, whose number is in brackets. Minutes are "
    "the median of a run on one thread, with whatever else the machine did at that time."
)


@dataclass(frozen=True)
class Run:
    """One run of the study, and where it is."""

    method: str
    prompt: str
    seed: int

    @property
    def folder(self) -> Path:
        return RUNS / self.method / f"{self.prompt.replace(' ', '_')}-{self.seed}"

    def go(self) -> None:
        told = [word.replace(TEMPLATES, str(self.templates())) for word in METHODS[self.method]]
        complete(
            self.folder,
            *("--prompt", self.prompt, "--seed", str(self.seed), *told),
            *("--prior", "toybox", "--set", "prompt.views=none"),
        )

    def templates(self) -> Path:
        """A folder with the toy's four sides."""
        toy = parse_caption(self.prompt)
        folder = RUNS / "templates" / self.prompt.replace(" ", "_")
        return template_folder(folder, str(toy.kind), str(toy.colour))

    def evaluate(self) -> None:
        record = self.folder / "metrics.json"
        known = json.loads(record.read_text("utf-8"))["metrics"] if record.is_file() else {}
        if not set(METRICS) <= known.keys():
            score_distill("evaluate", str(self.folder), "--metrics", ",".join(METRICS))

    def values(self) -> dict[str, float]:
        metrics = json.loads((self.folder / "metrics.json").read_text("utf-8"))["metrics"]
        return {name: value for each in metrics.values() for name, value in each["values"].items()}

    def is_vsd(self) -> bool:
        return self.method == "vsd"

    def failed(self) -> bool:
        found = self.values()
        return found["janus-faces"] != 1 or found["pose-consistency"] < LEAST_CONSISTENCY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="so many of the ten")
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--show-only", action="store_true", help="of what is finished")
    parser.add_argument("--diversity", action="store_true", help="half a minute for each method")
    parsed = parser.parse_args()
    # One seed of everything before the next: whenever it is stopped, methods can be compared.
    runs = [
        Run(method, prompt, seed)
        for seed in range(parsed.seeds)
        for prompt in PROMPTS[: parsed.prompts]
        for method in parsed.methods
    ]
    if parsed.show_only:
        runs = [run for run in runs if finished(run.folder)]
    for run in runs:
        run.templates()  # before two runs of one prompt could make them at once
    with ThreadPoolExecutor(parsed.at_once) as pool:
        for done, run in enumerate(pool.map(_complete, runs), start=1):
            print(f"{done}/{len(runs)} {run.method}, {run.prompt}, seed {run.seed}", flush=True)
    _refuse_mixed_weights(runs)
    failures = [run for run in runs if run.method in FAILURES]
    if failures:
        write_section(
            "methods", "\n".join(_section(failures, parsed.diversity)), DOCS / "toybox.md"
        )
    write_section("methods", "\n".join(_section(runs, parsed.diversity)), DOCS / "results.md")
    _picture(runs)


def _complete(run: Run) -> Run:
    run.go()
    run.evaluate()
    return run


def _refuse_mixed_weights(runs: Sequence[Run]) -> None:
    """Runs of two models do not belong in one table."""
    models = {weights(run.folder) for run in runs}
    if len(models) > 1:
        folders = [
            str(run.folder) for run in runs if weights(run.folder) != weights(runs[-1].folder)
        ]
        sys.exit(f"made with other weights, delete them: {' '.join(folders)}")


def _section(runs: Sequence[Run], diversity: bool) -> list[str]:
    """A row for each method."""
    methods = list(dict.fromkeys(run.method for run in runs))
    rows = []
    for method in methods:
        own = [run for run in runs if run.method == method]
        unlike = _diversity(own) if diversity else ("", "")
        for run in own:
            run.evaluate()  # a record of an older version gives way to the newest numbers alone
        values = [run.values() for run in own]
        faces = Counter(min(4, round(each["janus-faces"])) for each in values)
        counted = ", ".join(str(faces[count]) for count in range(5))
        front = _mean([each["front-share"] for each in values])
        names = ("pose-entropy", "pose-consistency", "likeness")
        told = [_mean([each[name] for each in values]) for name in names]
        failed = sum(run.failed() for run in own)
        taken = statistics.median(minutes(run.folder) for run in own)
        share = f"{failed} ({failed / len(own):.0%})"
        rows.append(
            [
                *(method, str(len(own)), share, counted, _than_vsd(own, runs), front),
                *(*told, *unlike, f"{taken:.1f}"),
            ]
        )
    return [
        markdown(HEADER, rows),
        "",
        CAPTION,
        "",
        f"{machine('sd-toybox', 'torch', 'diffusers')}; made by benchmarks/toybox_methods.py.",
    ]


def _than_vsd(own: Sequence[Run], runs: Sequence[Run]) -> str:
    vsd = {(run.prompt, run.seed): run.values()["janus-faces"] for run in runs if run.is_vsd()}
    more = [0, 0, 0]
    for run in own:
        faces, others = run.values()["janus-faces"], vsd.get((run.prompt, run.seed), 0.0)
        if faces and others and not run.is_vsd():
            more[1 + (faces > others) - (faces < others)] += 1
    return ", ".join(map(str, more)) if any(more) else ""


def _diversity(runs: Sequence[Run]) -> tuple[str, str]:
    """Asked of the runs of one method together, by the command."""
    several = Counter(run.prompt for run in runs)
    folders = [str(run.folder) for run in runs if several[run.prompt] > 1]
    if not folders:
        return "", ""
    with TemporaryDirectory() as aside:
        report = Path(aside) / "report"
        told = ("--metrics", ",".join(DIVERSITY), "--report", str(report))
        score_distill("evaluate", *folders, *told)
        recipe = json.loads((report / "report.json").read_text("utf-8"))["recipe"]
    ((_, found),) = recipe["methods"].items()
    prompts = sum(count > 1 for count in several.values())
    values = [found[name]["values"][name] for name in DIVERSITY]
    return f"{values[0]:.2f} ({prompts})", f"{values[1]:.2f} ({prompts})"


def _mean(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {spread:.2f}"


def _picture(runs: Sequence[Run]) -> None:
    """For each method one PNG: views around the true toy, and below around what was made of it."""
    prompts, seed = PICTURED
    for method in dict.fromkeys(run.method for run in runs):
        own = [Run(method, prompt, seed) for prompt in prompts]
        rows = [row for run in own if finished(run.folder) for row in _true_and_made(run)]
        if rows:
            path = IMAGES / f"toybox_{method}.png"
            save_png(path, contact_sheet(torch.cat(rows), COLUMNS))
            print(f"wrote {path}")


def _true_and_made(run: Run) -> tuple[Images, Images]:
    """From the same cameras, the front first."""
    folder, table = RunFolder.open(run.folder)
    experiment = Experiment(table, load_plugins())
    scene = load_scene(folder, experiment, device=torch.device("cpu"))
    rings = Rings.seen_by(experiment.stages[scene.stage].cameras, ViewOptions(views=COLUMNS))
    made = scene.renderer.preview(rings.cameras()).images.clamp(0, 1)
    named = parse_caption(run.prompt)
    true = world_pictures(str(named.kind), str(named.colour), rings.cameras(), made.shape[-1])
    return true, made


if __name__ == "__main__":
    main()
