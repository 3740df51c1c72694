"""The model card: what was measured against what was asked for, and how the model was made."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from sd_toybox.train.measure import Measurements, Shares
from sd_toybox.train.plan import SAMPLING_SCALE
from sd_toybox.train.progress import minutes
from sd_toybox.train.task import Outcome
from sd_toybox.world.poses import POSES

# What the model should reach.
LEAST_PSNR: Final = 28.0
LEAST_RIGHT: Final = 0.95
LEAST_RIGHT_HELD_OUT: Final = 0.80
MOST_POSE_DIFFERENCE: Final = 0.05
MOST_MEGABYTES: Final = 25.0

_POINTS = 10  # of each loss curve that are shown


@dataclass(frozen=True)
class MadeBy:
    """Where a model comes from."""

    fingerprint: str  # of plan, seed and world
    seed: int
    versions: dict[str, str]
    threads: int
    parameters: dict[str, int]
    megabytes: float
    seconds: dict[str, float]
    outcomes: dict[str, Outcome]


@dataclass(frozen=True)
class Target:
    """Something that was asked for, and whether it was reached."""

    what: str
    asked: str
    found: str
    reached: bool


def as_json(made_by: MadeBy, found: Measurements) -> str:
    """All numbers, for programs."""
    content = {"made_by": asdict(made_by), "measurements": asdict(found)}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def targets(made_by: MadeBy, found: Measurements) -> list[Target]:
    """The issue's demands. Of two judges the one counts who says worse.

    Poses are compared as the same judge sees samples and true pictures: the nearest render is a
    front a little too often, of both.
    """
    guided = min(right.both for right in found.right["guided"].values())
    held_out = min(right.both for right in found.right["held-out"].values())
    samples, world = found.poses["plain"], found.poses["world"]
    apart = max(pose_difference(samples[judge], world[judge]) for judge in samples)
    words = sum(effect.agrees for effect in found.words)
    return [
        Target(
            "VAE, mean over pictures",
            f"≥ {LEAST_PSNR:g} dB",
            f"{found.psnr:.1f} dB",
            found.psnr >= LEAST_PSNR,
        ),
        _share(f"kind and colour right, scale {SAMPLING_SCALE:g}", LEAST_RIGHT, guided),
        _share("the same, held-out combinations", LEAST_RIGHT_HELD_OUT, held_out),
        Target(
            "largest difference of a pose's share, scale 1",
            f"≤ {100 * MOST_POSE_DIFFERENCE:.0f} points",
            f"{100 * apart:.1f} points",
            apart <= MOST_POSE_DIFFERENCE,
        ),
        Target(
            "words that change what they should",
            f"{len(found.words)}",
            f"{words}",
            words == len(found.words),
        ),
        Target(
            "size",
            f"≤ {MOST_MEGABYTES:g} MB",
            f"{made_by.megabytes:.1f} MB",
            made_by.megabytes <= MOST_MEGABYTES,
        ),
    ]


def card(made_by: MadeBy, found: Measurements) -> str:
    """README.md of the model's folder."""
    sections = [
        "# The toybox's model\n\nA Stable Diffusion of the toybox's world, and the CLIP model that "
        "judges it, as `python -m sd_toybox.train` made them. This page was written by it.",
        _table(
            ("asked for", "at least or at most", "measured", ""),
            [
                (each.what, each.asked, each.found, "yes" if each.reached else "**no**")
                for each in targets(made_by, found)
            ],
        ),
        _right(found),
        _poses(found),
        _words(found),
        _losses(made_by),
        _making(made_by),
    ]
    return "\n\n".join(sections) + "\n"


def pose_difference(shares: Shares, others: Shares) -> float:
    """The largest difference of a share."""
    return max(abs(one - other) for one, other in zip(shares, others, strict=True))


def _right(found: Measurements) -> str:
    rows = [
        (group, judge, *(_percent(share) for share in (r.kind, r.colour, r.both, r.pose)))
        for group, by_judge in found.right.items()
        for judge, r in by_judge.items()
    ]
    return (
        "## Is it what was asked for?\n\nTwo judges: the nearest of the world's renders, and the "
        "CLIP model. `world` is true pictures from all around: there, they are judged. "
        f"`guided` and `held-out` are at scale {SAMPLING_SCALE:g}, `plain` at 1. "
        f"VAE, uncorrupted pictures alone: {found.psnr_uncorrupted:.1f} dB.\n\n"
        + _table(("pictures", "judge", "kind", "colour", "both", "pose"), rows)
    )


def _poses(found: Measurements) -> str:
    rows = [
        (group, judge, *map(_percent, shares))
        for group, by_judge in found.poses.items()
        for judge, shares in by_judge.items()
    ]
    return (
        "## From where?\n\nThe judges saw the world's uncorrupted test pictures, at its rates.\n\n"
        + _table(("pictures", "judge", *POSES), rows)
    )


def _words(found: Measurements) -> str:
    rows = [
        (each.word, each.statistic, f"{each.world:+.4f}", f"{each.model:+.4f}")
        for each in found.words
    ]
    return "## What words change\n\n" + _table(("word", "of the picture", "world", "model"), rows)


def _losses(made_by: MadeBy) -> str:
    parts = ["## Losses\n\nMeans over the steps since the line before."]
    for name, outcome in made_by.outcomes.items():
        shown = outcome.history[:: max(1, len(outcome.history) // _POINTS)]
        names = tuple(shown[0][1])
        rows = [(str(step), *(f"{losses[each]:.4g}" for each in names)) for step, losses in shown]
        parts.append(_table((f"step of {name}", *names), rows))
    return "\n\n".join(parts)


def _making(made_by: MadeBy) -> str:
    rows = [(name, minutes(seconds)) for name, seconds in made_by.seconds.items()]
    sizes = ", ".join(f"{name} {count:,}" for name, count in made_by.parameters.items())
    versions = ", ".join(f"{name} {version}" for name, version in made_by.versions.items())
    return (
        f"## How it was made\n\nSeed {made_by.seed}, {made_by.threads} threads, plan and world "
        f"{made_by.fingerprint}. {versions}. Parameters: {sizes}.\n\n"
        + _table(("part", "minutes"), rows)
        + "\n\nOf pictures, latents and measure: minutes of the command's last run, which goes on "
        "from what earlier ones kept. Of the trainings: of all runs together."
    )


def _share(what: str, asked: float, found: float) -> Target:
    return Target(what, f"≥ {100 * asked:.0f} %", f"{100 * found:.1f} %", found >= asked)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
