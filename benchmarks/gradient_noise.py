"""How much gradients scatter over their noise: among eight Gaussians, and on the toybox.

    python benchmarks/gradient_noise.py [--only gaussians]

First JSD beside SDS at fixed points and times, with exact scores; then what `score-distill
diagnose` says of four methods on one scene, with its figure. Rewrites two sections of
docs/results.md and docs/images/diagnosis.png. Takes ten minutes of one core.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _report import machine, write_section
from _runs import score_distill
from torch import Generator, Tensor

from sd_core.cameras import turntable
from sd_core.diagnostics import spread
from sd_core.prior import AbstractPrior
from sd_core.step import Step
from sd_core.tables import markdown
from sd_core.timesteps import TimestepOptions

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from eight_gaussians import ONE, Setting, exact_prior

DOCS = Path(__file__).parent.parent / "docs"
DOCUMENT, PICTURE = DOCS / "results.md", DOCS / "images" / "diagnosis.png"

DRAWS, RESAMPLES = 2000, 400
TIMES = (20, 50, 100, 250, 400, 600, 800)
POINTS = {"near": (0.9, 0.2), "far": (-1.0, 1.0)}  # from the mode at (1, 0), which is the prompt
SCALE = 13.5  # the paper's

METHODS = ("sds", "vsd", "bridge", "jsd")
EQUAL = 7.5  # the scale of all of them on the toybox
STEPS = (0, 150)  # of VSD's 300


def residuals(method: str, point: Sequence[float], t: int, prior: AbstractPrior) -> Tensor:
    """The difference of the two noises at each draw, without a weight: [draws, 1, 2]."""
    length = len(prior.schedule)
    only = TimestepOptions(low=(t - 0.25) / length, high=(t + 0.25) / length)
    guidance = Setting(ONE, SCALE, only).guidance(method, prior)
    latents = torch.tensor(point).view(1, 2, 1, 1).expand(DRAWS, -1, -1, -1)
    cameras, generator, step = turntable(DRAWS), Generator().manual_seed(0), Step(0, 1)
    noised = guidance.noised(latents, cameras, step=step, generator=generator)
    target, source = guidance.sides(noised, cameras, step=step, generator=generator)
    return (target.noise - source.noise).view(DRAWS, 1, 2)


def ratio(mine: Tensor, theirs: Tensor) -> str:
    """Of two variances, and its 95 % bootstrap interval."""
    squared = [(own - own.mean(0)).double().square().flatten(1).sum(1) for own in (mine, theirs)]
    generator = Generator().manual_seed(1)
    rows = [torch.randint(DRAWS, (RESAMPLES, DRAWS), generator=generator) for _ in range(2)]
    low, high = (squared[0][rows[0]].mean(1) / squared[1][rows[1]].mean(1)).quantile(
        torch.tensor([0.025, 0.975], dtype=torch.float64)
    )
    return f"{squared[0].mean() / squared[1].mean():.2g} ({low:.2g} to {high:.2g})"


def gaussians() -> str:
    """Each one's relative variance, and the variance of JSD over that of SDS at equal weights."""
    prior, rows = exact_prior(), []
    for where, point in POINTS.items():
        for t in TIMES:
            jsd, sds = (residuals(method, point, t, prior) for method in ("JSD", "SDS"))
            told = [spread(own, Generator().manual_seed(1)) for own in (jsd, sds)]
            relative = [_interval(own.relative_variance, own.interval) for own in told]
            rows.append([where, str(t), *relative, ratio(jsd, sds)])
    return markdown(["point", "t", "JSD", "SDS", "V of JSD over V of SDS"], rows)


def toybox() -> tuple[str, str]:
    """By the command: relative variance, and the correlation of the two terms."""
    told = {f"{method}.scale": EQUAL for method in METHODS} | {"bridge.switch_at": 0}
    options = [word for key, value in told.items() for word in ("--with", f"{key}={value}")]
    with TemporaryDirectory() as aside:
        folder = Path(aside) / "diagnosed"
        score_distill(
            *("diagnose", "--prior", "toybox", "--prompt", "a red bear", "--guidance", "vsd"),
            *("--set", "prompt.views=none", "--methods", ",".join(METHODS), *options),
            *("--steps", ",".join(map(str, STEPS)), "--output", str(folder)),
        )
        rows = json.loads((folder / "diagnose.json").read_text("utf-8"))["rows"]
        PICTURE.write_bytes((folder / "diagnose.png").read_bytes())
    at = {(row["step"], row["t"], row["method"]): row for row in rows}
    places = sorted({(step, t) for step, t, _ in at})
    noise, alike = (
        markdown(
            ["step", "t", *METHODS],
            [[str(step), str(t), *(cell(at[step, t, m]) for m in METHODS)] for step, t in places],
        )
        for cell in (_relative, _correlation)
    )
    return noise, alike


def _relative(row: dict[str, Any]) -> str:
    return _interval(row["spread"]["relative_variance"], row["spread"]["interval"])


def _interval(value: float | None, ends: Sequence[float | None]) -> str:
    """`value (low to high)`; infinite where the mean cannot be told from 0."""
    told = ["∞" if each is None or each == inf else f"{each:.2g}" for each in (value, *ends)]
    return f"{told[0]} ({told[1]} to {told[2]})"


def _correlation(row: dict[str, Any]) -> str:
    value = row["correlation"]
    return "–" if value is None else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="How much gradients scatter over their noise")
    parser.add_argument("--only", choices=("gaussians", "toybox"), help="one of the two sections")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    if only != "toybox":
        write_section("gaussian-noise", _of_gaussians(), DOCUMENT)
    if only != "gaussians":
        write_section("gradient-noise", _of_toybox(), DOCUMENT)


def _of_gaussians() -> str:
    where = " and ".join(f"{told} {point}" for told, point in POINTS.items())
    return f"""
**Eight Gaussians**, exact scores, guidance {SCALE}, the mode at (1, 0) as the prompt, points
{where}: V/‖E g‖² of each, the variance over the squared length of the mean, which no weight
changes; and the variance alone, JSD's over SDS's, at equal weights. {DRAWS} draws, 95 % bootstrap
intervals.

{gaussians()}

{machine("sd-core", "sd-guidance-jsd", "torch")}; made by benchmarks/gradient_noise.py.
"""


def _of_toybox() -> str:
    noise, alike = toybox()
    return f"""
**Toybox**, one scene of "a red bear" as it begins and after {STEPS[1]} steps of VSD, all methods at
scale {EQUAL:g}: V/‖E g‖², the variance over the squared length of the mean (32 draws, 4 cameras,
95 % interval).

{noise}

The correlation of the two terms over the draws; "–" where one of them has no noise.

{alike}

![Relative variance, cosine with the mean, correlation and cosine](images/{PICTURE.name})

{machine("sd-core", "sd-toybox", "sd-guidance-jsd", "torch", "diffusers")}; made by
benchmarks/gradient_noise.py.
"""


if __name__ == "__main__":
    main()
