"""How much gradients scatter over their noise: among eight Gaussians, and on the toybox.

    python benchmarks/gradient_noise.py

First JSD beside SDS at fixed points and times, with exact scores; then what `score-distill
diagnose` says of four methods on one scene, with its figure. Rewrites a section of docs/results.md
and docs/images/diagnosis.png. Takes ten minutes of one core.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _report import machine, write_section
from _runs import score_distill
from torch import Generator, Tensor

from sd_core.cameras import turntable
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


def deviations(method: str, point: Sequence[float], t: int, prior: AbstractPrior) -> Tensor:
    """Each draw's residual and gradient, less their means, as squared lengths: [2, draws]."""
    length = len(prior.schedule)
    only = TimestepOptions(low=(t - 0.25) / length, high=(t + 0.25) / length)
    guidance = Setting(ONE, SCALE, only).guidance(method, prior)
    latents = torch.tensor(point).view(1, 2, 1, 1).expand(DRAWS, -1, -1, -1)
    cameras, generator, step = turntable(DRAWS), Generator().manual_seed(0), Step(0, 1)
    noised = guidance.noised(latents, cameras, step=step, generator=generator)
    target, source = guidance.sides(noised, cameras, step=step, generator=generator)
    residual = (target.noise - source.noise).double()
    both = torch.stack([residual, guidance.weights(noised, step=step).double() * residual])
    return (both - both.mean(1, keepdim=True)).square().flatten(2).sum(2)


def ratio(mine: Tensor, theirs: Tensor) -> str:
    """Of two variances, and its 95 % bootstrap interval."""
    generator = Generator().manual_seed(1)
    rows = [torch.randint(DRAWS, (RESAMPLES, DRAWS), generator=generator) for _ in range(2)]
    low, high = (mine[rows[0]].mean(1) / theirs[rows[1]].mean(1)).quantile(
        torch.tensor([0.025, 0.975], dtype=mine.dtype)
    )
    return f"{mine.mean() / theirs.mean():.3g} ({low:.3g} to {high:.3g})"


def gaussians() -> str:
    """The variance of JSD over that of SDS, at equal weights and at each one's own."""
    prior, rows = exact_prior(), []
    for t in TIMES:
        row = [str(t)]
        for point in POINTS.values():
            found = [deviations(method, point, t, prior) for method in ("JSD", "SDS")]
            row += [ratio(mine, theirs) for mine, theirs in zip(*found, strict=True)]
        rows.append(row)
    header = [f"{where}, {weight}" for where in POINTS for weight in ("equal weights", "own")]
    return markdown(["t", *header], rows)


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
    spread = row["spread"]
    low, high = ("∞" if end is None else f"{end:.2g}" for end in spread["interval"])
    value = spread["relative_variance"]
    return f"{'∞' if value is None else f'{value:.2g}'} ({low} to {high})"


def _correlation(row: dict[str, Any]) -> str:
    value = row["correlation"]
    return "–" if value is None else f"{value:.2f}"


def main() -> None:
    torch.set_num_threads(1)
    noise, alike = toybox()
    where = " and ".join(f"{told} {point}" for told, point in POINTS.items())
    versions = machine("sd-core", "sd-toybox", "sd-guidance-jsd", "torch", "diffusers")
    text = f"""
**Eight Gaussians**, exact scores, guidance {SCALE}, the mode at (1, 0) as the prompt: the variance
of JSD's gradient over that of SDS's at points {where};
{DRAWS} draws, 95 % bootstrap interval. Below 1 JSD is the stabler.

{gaussians()}

**Toybox**, one scene of "a red bear" as it begins and after {STEPS[1]} steps of VSD, all methods at
scale {EQUAL:g}: V/‖E g‖², the variance over the squared length of the mean (32 draws, 4 cameras,
95 % interval).

{noise}

The correlation of the two terms over the draws; "–" where one of them has no noise.

{alike}

![Relative variance, cosine with the mean, correlation and cosine](images/{PICTURE.name})

{versions}; made by benchmarks/gradient_noise.py.
"""
    write_section("gradient-noise", text, DOCUMENT)


if __name__ == "__main__":
    main()
