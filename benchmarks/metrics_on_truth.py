"""Which metric sees which defect: true toys against spoilt, many-faced and wrong ones.

    python benchmarks/metrics_on_truth.py [--toys 8]

The toybox knows what is right, so the metrics can be measured themselves. Distances are to pictures
of its world, which are made at the first time and kept under runs/metrics. Rewrites the tables of
docs/metrics.md. A quarter of an hour on one thread.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import radians
from pathlib import Path
from statistics import mean, stdev

import torch
from _report import machine, write_section
from _toys import MATCHING, TEMPLATES, template_folder
from torch import Generator

from sd_core.atomic import new_folder
from sd_core.cameras import CameraBatch, turntable
from sd_core.evaluation import Batch, Judge, Views, build_judge, choose_metrics
from sd_core.metric import MetricContext
from sd_core.pictures import save_png
from sd_core.plugins import load_plugins
from sd_core.shapes import Images
from sd_core.tables import markdown
from sd_toybox.meter.many_faced import many_faced
from sd_toybox.model.encoders import ENCODERS
from sd_toybox.world.corruptions import corrupted
from sd_toybox.world.kinds import COLOURS, KINDS, body_colour
from sd_toybox.world.pictures import draw_toy, world_pictures
from sd_toybox.world.samples import sample_world_cameras
from sd_toybox.world.toys import Toy

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "metrics.md"
WORK = ROOT / "runs" / "metrics"
REFERENCE = WORK / "reference"

VIEWS, ELEVATION_DEG, DISTANCE, FIELD_OF_VIEW_DEG = 24, 10.0, 2.0, 40.0
PIXELS = 64
EACH = 200  # pictures of a prompt in the reference
# One of each kind, in different colours.
TOYS = tuple(zip(KINDS, COLOURS, strict=True))
# Of 8 toys the true one scores better 7 times or more by chance in 3.5 of 100 cases.
SEEN_FROM = 7 / 8

Draw = Callable[[str, str, CameraBatch], Images]


def spoilt(word: str) -> Draw:
    """The true views with one of the world's corruptions."""

    def draw(kind: str, colour: str, cameras: CameraBatch) -> Images:
        true = world_pictures(kind, colour, cameras, PIXELS)
        return corrupted(true, [(word,)] * len(true), Generator().manual_seed(0))

    return draw


def faced(faces: int) -> Draw:
    """The toy with so many faces."""

    def draw(kind: str, colour: str, cameras: CameraBatch) -> Images:
        body = torch.tensor(body_colour(colour)).expand(len(cameras), 3)
        made: Toy = many_faced(kind, faces)
        return draw_toy(made, body, cameras, PIXELS)

    return draw


def true(kind: str, colour: str, cameras: CameraBatch) -> Images:
    return world_pictures(kind, colour, cameras, PIXELS)


def all_front(kind: str, colour: str, cameras: CameraBatch) -> Images:
    one = cameras.select(torch.zeros(1, dtype=torch.long))
    return true(kind, colour, one).expand(len(cameras), -1, -1, -1)


def another_kind(kind: str, colour: str, cameras: CameraBatch) -> Images:
    return true(KINDS[(KINDS.index(kind) + 1) % len(KINDS)], colour, cameras)


def another_colour(kind: str, colour: str, cameras: CameraBatch) -> Images:
    return true(kind, COLOURS[(COLOURS.index(colour) + 1) % len(COLOURS)], cameras)


DEFECTS: dict[str, Draw] = {
    "blurry": spoilt("blurry"),
    "noisy": spoilt("noisy"),
    "foggy": spoilt("foggy"),
    "oversaturated": spoilt("oversaturated"),
    "two faces": faced(2),
    "three faces": faced(3),
    "front only": all_front,
    "another kind": another_kind,
    "another colour": another_colour,
}


@dataclass(frozen=True)
class Column:
    """A number of a metric, and how its user would ask for it."""

    metric: str
    value: str
    options: tuple[str, ...] = ()


def columns(prompts: Path) -> list[Column]:
    alone = (f"reference={REFERENCE}", "pooled=false")
    return [
        Column("clip-distance", "clip-distance"),
        Column("clip-r-precision", "clip-r-precision", (f"prompts={prompts}",)),
        Column("fid", "fid", alone),
        Column("clip-fid", "clip-fid", alone),
        Column("kid", "kid", alone),
        Column("ufid", "ufid", alone),
        Column("iq", "iq"),
        Column("iv", "iv"),
        Column("ig", "ig"),
        Column("clip-entropy", "clip-entropy"),
        Column("matching-pose-entropy", "matching-pose-entropy", MATCHING),
        Column("t3-quality", "t3-quality-clip"),
        Column("t3-alignment", "t3-alignment-recall"),
        Column("janus-faces", "janus-faces"),
        Column("pose-consistency", "pose-consistency"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--toys", type=int, default=len(TOYS))
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    toys = TOYS[: parsed.toys]
    prompts = _prompts(toys)
    _reference(toys)
    found = {}
    for column in columns(prompts):
        judges = _judges(column, toys)
        found[column.value] = judges[0], _values(judges, column, toys)
        print(column.value, flush=True)
    write_section("metrics-on-truth", _section(found, len(toys)), DOCUMENT)
    write_section("metrics-of-particles", _particles(), DOCUMENT)


def _prompts(toys: Sequence[tuple[str, str]]) -> Path:
    """All that a toy could be called; those of this study first."""
    every = [f"a {colour} {kind}" for kind, colour in toys]
    every += [f"a {colour} {kind}" for kind in KINDS for colour in COLOURS]
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / "prompts.txt"
    path.write_text("\n".join(dict.fromkeys(every)) + "\n", "utf-8")
    return path


def _reference(toys: Sequence[tuple[str, str]]) -> None:
    """Pictures of the world, from where its photographers stand: three of four show the front."""
    if REFERENCE.is_dir():
        told = json.loads((REFERENCE / "captions.json").read_text("utf-8")).values()
        if set(told) != {f"a {colour} {kind}" for kind, colour in toys}:
            sys.exit(f"{REFERENCE} is of other toys: delete it")
        return
    captions = {}
    with new_folder(REFERENCE) as aside:
        for index, (kind, colour) in enumerate(toys):
            cameras = sample_world_cameras(EACH, Generator().manual_seed(index))
            for place, picture in enumerate(world_pictures(kind, colour, cameras, PIXELS)):
                name = f"{kind}-{place:03d}.png"
                save_png(aside / name, picture[None])
                captions[name] = f"a {colour} {kind}"
        (aside / "captions.json").write_text(json.dumps(captions, indent=1), "utf-8")


def _judges(column: Column, toys: Sequence[tuple[str, str]]) -> list[Judge]:
    """Of each toy; one and the same where it needs no templates of it."""
    if not any(TEMPLATES in each for each in column.options):
        return [_judge(column)] * len(toys)
    folders = [template_folder(WORK / "templates" / kind, kind, colour) for kind, colour in toys]
    return [_judge(column, templates=str(folder)) for folder in folders]


def _judge(column: Column, *, templates: str = "") -> Judge:
    plugins = load_plugins()
    options = [each.replace(TEMPLATES, templates) for each in column.options]
    told = [f"{column.metric}.{each}" for each in options]
    (choice,) = choose_metrics(plugins, [column.metric], told)
    return build_judge(choice, plugins, MetricContext(torch.device("cpu"), ENCODERS))


def _values(
    judges: Sequence[Judge], column: Column, toys: Sequence[tuple[str, str]]
) -> dict[str, list[float]]:
    """Of the true object and of each defect: one number for each toy."""
    cameras = judges[0].metric.wanted_cameras(
        distance=DISTANCE, vertical_fov_deg=FIELD_OF_VIEW_DEG
    ) or turntable(
        VIEWS, elevation_deg=ELEVATION_DEG, distance=DISTANCE, vertical_fov_deg=FIELD_OF_VIEW_DEG
    )
    return {
        name: [
            judge.measure(
                _views(f"a {colour} {kind}", draw(kind, colour, cameras), cameras)
            ).values[column.value]
            for judge, (kind, colour) in zip(judges, toys, strict=True)
        ]
        for name, draw in {"true": true, **DEFECTS}.items()
    }


def _views(prompt: str, images: Images, cameras: CameraBatch) -> Views:
    return Views(prompt, {}, lambda: [Batch(images, cameras)])


def _section(found: dict[str, tuple[Judge, dict[str, list[float]]]], toys: int) -> str:
    rows = []
    for name, (judge, values) in found.items():
        better = judge.metric.higher_is_better
        sign = {True: 1.0, False: -1.0, None: 0.0}[better]
        own = values["true"]
        row = [f"{name} {'↑' if sign > 0 else '↓' if sign < 0 else ''}", _spread(own)]
        for defect in DEFECTS:
            # Of a count the right value is that of true objects: whatever differs is worse.
            wins = sum(
                (a != b) if better is None else sign * (a - b) > 0
                for a, b in zip(own, values[defect], strict=True)
            )
            shown = f"{wins} of {toys}"
            seen = f"**{shown}**" if wins >= SEEN_FROM * toys else shown
            row.append(f"{seen} ({mean(values[defect]):.3g})")
        rows.append(row)
    return "\n".join(
        [
            markdown(["metric", "true", *DEFECTS], rows),
            "",
            f"Of {toys} toys: how often the true object scores better than the same with the "
            "defect, and in brackets the mean of the defect. Bold: "
            f"{SEEN_FROM:.0%} or more. {VIEWS} views at {ELEVATION_DEG:g}°, {PIXELS}², of a toy of "
            "each kind; t3-quality from its own cameras. Distances are to "
            f"{EACH} pictures of the world for each prompt, of which three in four show the front, "
            "by the features of the toybox's CLIP. matching-pose-entropy has the toy's own four "
            "sides for templates.",
            "",
            f"{machine('sd-metrics', 'sd-guidance-usd', 'sd-toybox', 'torch')}; made by "
            "benchmarks/metrics_on_truth.py.",
        ]
    )


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.3g} ± {stdev(values) if len(values) > 1 else 0.0:.2g}"


def _particles() -> str:
    """Three runs of one prompt: all alike, all true from other sides, and three kinds."""
    kind, colour = "bear", "red"
    turned = [_ring(radians(degrees)) for degrees in (0, 120, 240)]
    sets: dict[str, list[tuple[Images, CameraBatch]]] = {
        "three times the same": [(true(kind, colour, turned[0]), turned[0])] * 3,
        "the same, turned": [(true(kind, colour, ring), turned[0]) for ring in turned],
        "three kinds": [(true(each, colour, turned[0]), turned[0]) for each in KINDS[:3]],
        "the front only, three times": [(all_front(kind, colour, turned[0]), turned[0])] * 3,
    }
    rows = []
    for name, particles in sets.items():
        row = [name]
        for metric in ("iv-particles", "feature-similarity"):
            judge = _judge(Column(metric, metric))
            for images, cameras in particles:
                judge.take_in(_views(f"a {colour} {kind}", images, cameras))
            row.append(f"{judge.conclude().values[metric]:.3f}")
        rows.append(row)
    return "\n".join(
        [
            markdown(
                ["three particles of one prompt", "iv-particles ↑", "feature-similarity ↓"], rows
            ),
            "",
            "Of a red bear's views, as above. Made by benchmarks/metrics_on_truth.py.",
        ]
    )


def _ring(turn: float) -> CameraBatch:
    """The ring, begun elsewhere."""
    ring = turntable(
        VIEWS, elevation_deg=ELEVATION_DEG, distance=DISTANCE, vertical_fov_deg=FIELD_OF_VIEW_DEG
    )
    places = torch.arange(VIEWS) + round(turn / radians(360 / VIEWS))
    return ring.select(places % VIEWS)


if __name__ == "__main__":
    main()
