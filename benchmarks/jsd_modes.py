"""SDS and JSD among the eight Gaussians of the JSD paper, over several repeats.

    python benchmarks/jsd_modes.py [--repeats 3] [--seeds 100] [--steps 300]

The world of examples/eight_gaussians.py. Rewrites a section of docs/results.md and the pictures
docs/images/eight_gaussians.png, which is of the first repeat, and eight_gaussians_seeds.png, of 10,
100 and 1000 seeds. A repeat has its own noise and a learned prior of its own. Takes nine minutes of
one core.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from statistics import mean, stdev
from time import process_time

import torch
from _report import machine, write_section
from torch import Tensor

from sd_core.tables import markdown
from sd_core.timesteps import TimestepOptions

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from eight_gaussians import (
    METHODS,
    ONE,
    PAPER_STEPS,
    STARTS,
    Setting,
    compare_terms,
    exact_prior,
    judge,
    paths,
    train,
    write_picture,
)

DOCS = Path(__file__).parent.parent / "docs"
DOCUMENT, PICTURE = DOCS / "results.md", DOCS / "images" / "eight_gaussians.png"
MANY = PICTURE.with_name("eight_gaussians_seeds.png")
SEEDS = (10, 100, 1000)  # the paper's, figures 5 and 10
TRAINING, DRAWS = 6000, 2000
ONWARD = (10, 50, 100, 300, 600, 900)  # steps, to see where the points drift
PLAIN, CLASS = Setting(), Setting(ONE, 13.5)
# Which prior, what differs from the plain setting, and how it is told.
SETTINGS: tuple[tuple[str, str, Setting], ...] = (
    ("exact", "", PLAIN),
    ("learned", "", PLAIN),
    ("exact", ", class, s = 13.5", CLASS),
    ("learned", ", class, s = 13.5", CLASS),
    ("exact", ", t falls", Setting(timesteps=TimestepOptions(schedule="linear-descent"))),
    ("exact", ", t ≤ 0.2", Setting(timesteps=TimestepOptions(high=0.2))),
)
SHOWN = ("exact", "learned", "exact, class, s = 13.5")  # in the picture
COLUMNS = (
    *("modes, 10 steps", "modes", "points at modes", "spread there", "distance"),
    *("correlation", "variance left", "noise"),
)
Values = dict[str, list[float]]


def measure(setting: tuple[str, str, Setting], method: str, prior, options, seed: int):
    """The paths of one row in one repeat, and its numbers, in the order of COLUMNS."""
    guidance = setting[2].guidance(method, prior)
    path = paths(guidance, options.steps, options.seeds, seed)
    early = [judge(points) for points in path[min(PAPER_STEPS, options.steps)]]
    late = [judge(points) for points in path[-1]]
    terms = compare_terms(guidance, DRAWS, seed)
    numbers = (
        [float(each.modes) for each in early],
        [float(each.modes) for each in late],
        *([getattr(each, name) for each in late] for name in ("at", "spread", "far")),
        *([value] for value in (terms.correlation, terms.left, terms.noise)),
    )
    return path, numbers


def by_seeds(steps: int) -> dict[str, list[Tensor]]:
    """Paths from (-1, 1) by more and more seeds, with and without a class; the exact prior."""
    prior, found = exact_prior(), {}
    for setting, told in ((PLAIN, ""), (CLASS, ", class")):
        for method in METHODS:
            guidance = setting.guidance(method, prior)
            path = paths(guidance, steps, max(SEEDS), places=STARTS[:1])[:, 0]
            found[method + told] = [path[:, :count] for count in SEEDS]
    return found


def onward(seeds: int) -> list[list[str]]:
    """Of the plain setting on the exact prior, at more and more steps: one seed of the noise."""
    rows = []
    for method in METHODS:
        path = paths(PLAIN.guidance(method, exact_prior()), ONWARD[-1], seeds)
        ends = [[judge(points) for points in path[steps]] for steps in ONWARD]
        shown = {"points at modes": "at", "distance": "far"}
        rows += [
            [f"{method}, {told}", *(f"{mean(getattr(e, name) for e in at):.2f}" for at in ends)]
            for told, name in shown.items()
        ]
    return rows


def cell(values: Sequence[float]) -> str:
    """`mean ± std`, of those that there are."""
    known = [value for value in values if isfinite(value)]
    if not known:
        return "–"
    spread = stdev(known) if len(known) > 1 else 0.0
    return f"{mean(known):.2f} ± {spread:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="SDS and JSD among eight Gaussians")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = process_time()
    found: dict[str, Values] = defaultdict(lambda: defaultdict(list))
    pictured = {}
    for repeat in range(options.repeats):
        priors = {"exact": exact_prior(), "learned": train(TRAINING, repeat)}
        for setting in SETTINGS:
            for method in METHODS:
                row = f"{method}, {setting[0]}{setting[1]}"
                path, numbers = measure(setting, method, priors[setting[0]], options, repeat)
                for column, values in zip(COLUMNS, numbers, strict=True):
                    found[row][column] += values
                if repeat == 0 and row.endswith(SHOWN):
                    pictured[row] = path.unbind(1)
                print(f"repeat {repeat}: {row}, {process_time() - began:.0f} s", flush=True)
    write_picture(PICTURE, pictured)
    write_picture(MANY, by_seeds(options.steps))
    rows = [[row, *(cell(values[column]) for column in COLUMNS)] for row, values in found.items()]
    later = markdown(["after so many steps", *map(str, ONWARD)], onward(options.seeds))
    write_section("eight-gaussians", text(rows, later, options, process_time() - began), DOCUMENT)


def text(
    rows: Sequence[Sequence[str]], later: str, options: argparse.Namespace, seconds: float
) -> str:
    """The section of the document."""
    return f"""
{markdown(["method, prior", *COLUMNS], rows)}

Mean ± standard deviation over {options.repeats} repeats, and for the first five columns over the
{len(STARTS)} starts of each; {options.seeds} points a start, {options.steps} steps of Adam at 0.03.
Prior: eight modes, a spread of 0.10, a distance from the origin of 1.00. Both methods have t
uniform in 0.02 to 0.98 and no guidance, unless the row says so: class is the mode at (1, 0) as the
prompt, t falls is from 0.98 to 0.25. A mode counts from 1 % of the points within 0.3 of it. The
last three columns are of the two terms a, b of the residual at the start, over {DRAWS} draws of t
and noise: their correlation, the variance of a - b over that of a, and the gradient's standard
deviation over the length of its mean; – where a never varies. Where t falls that is its first t.

Without a class on exact noise, mean over the starts, by one seed of the noise:

{later}

![Where the points end: SDS above JSD, with exact and learned noise](images/{PICTURE.name})

![From one start by 10, 100 and 1000 seeds, without and with a class](images/{MANY.name})

{machine("sd-core", "sd-guidance-jsd", "torch")};
seeds 0 to {options.repeats - 1}, {seconds / 60:.1f} minutes of one core.
Made by benchmarks/jsd_modes.py.
"""


if __name__ == "__main__":
    main()
