"""Which diffusion time t to look at, at this step of the optimisation.

Every schedule is a function of the step alone: a range of t to draw from, or a single t.
Options are fractions of the noise schedule (0 clean, 1 noise) and of the training.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from sd_core.config import Options, option, shown
from sd_core.noising import NoiseSchedule
from sd_core.shapes import Timesteps
from sd_core.step import Step

# Which schedules read the options that not all of them do.
_READERS = MappingProxyType(
    {
        "switch_at": ("hard-switch",),
        "high_after": ("hard-switch", "linear-anneal"),
        "low_end": ("linear-descent",),
        "anneal_until": ("linear-anneal", "linear-descent"),
        "blocks": ("back-and-forth",),
        "pieces": ("pieces",),
    }
)

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
ScheduleName = Literal[
    "uniform",
    "hard-switch",
    "linear-anneal",
    "linear-descent",
    "dreamtime",
    "back-and-forth",
    "pieces",
]
# From which fraction of the training on, the lowest and the highest t.
Piece = tuple[Fraction, Fraction, Fraction]

# DreamTime's prior weight (Huang et al. 2023, arXiv:2306.12422v1, T = 1000), as fractions of T:
# flat between m2 = 500 and m1 = 800, Gaussian flanks of s1 = 300 above and s2 = 100 below.
DREAMTIME_M1, DREAMTIME_M2 = 0.8, 0.5
DREAMTIME_S1, DREAMTIME_S2 = 0.3, 0.1


class TimestepOptions(Options):
    """Which t at which step. Bounds are inclusive."""

    schedule: ScheduleName = option(
        "uniform",
        "uniform: t in [low, high]. hard-switch: the upper bound drops to high_after at switch_at. "
        "linear-anneal: it sinks there steadily. linear-descent: one t, from high to low_end. "
        "dreamtime: one t, from high to low, slowest where DreamTime's weight is large. "
        "back-and-forth: the range grows from the noisy end, then shrinks towards the clean one. "
        "pieces: the ranges that pieces names.",
    )
    low: float = option(0.02, "lowest t, as a fraction of the noise schedule", ge=0.0, lt=1.0)
    high: float = option(0.98, "highest t, as a fraction of the noise schedule", gt=0.0, le=1.0)
    switch_at: float = option(
        0.2, "hard-switch: when, as a fraction of training (5000 of 25000)", ge=0.0, le=1.0
    )
    high_after: float = option(
        0.5, "hard-switch, linear-anneal: the upper bound that they arrive at", gt=0.0, le=1.0
    )
    low_end: float = option(
        0.25, "linear-descent: the t that it arrives at (SDI's and JSD's code)", ge=0.0, lt=1.0
    )
    anneal_until: float = option(
        1.0,
        "linear-anneal, linear-descent: when they arrive, as a fraction of training",
        gt=0.0,
        le=1.0,
    )
    blocks: int = option(
        2, "back-and-forth: training is cut into twice this many blocks", symbol="n_i", ge=1.0
    )
    pieces: tuple[Piece, ...] = option(
        ((0.0, 0.5, 0.98), (0.64, 0.3, 0.75), (0.84, 0.02, 0.5)),
        "pieces: [when, low, high], as fractions of training and of the noise schedule; the first "
        "begins at 0",
        min_length=1,
    )
    shared: bool = option(False, "one t for the whole batch instead of one for each sample")

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "TimestepOptions":
        if self.low >= self.high:
            raise ValueError(f"low = {self.low} must lie below high = {self.high}.")
        shrinks = self.schedule in ("hard-switch", "linear-anneal")
        if shrinks and not self.low < self.high_after <= self.high:
            raise ValueError(
                f"high_after = {self.high_after} must lie above low = {self.low} and not above "
                f"high = {self.high}."
            )
        if self.schedule == "linear-descent" and not self.low <= self.low_end < self.high:
            raise ValueError(
                f"low_end = {self.low_end} must lie below high = {self.high} and not below "
                f"low = {self.low}."
            )
        return self

    @model_validator(mode="after")
    def _schedule_is_not_forgotten(self) -> "TimestepOptions":
        """What another schedule reads is an oversight, unless this one was chosen by name."""
        for name, readers in _READERS.items():
            if "schedule" in self.model_fields_set or name not in self.model_fields_set:
                continue
            raise ValueError(
                f"{name} is {shown(getattr(self, name))}, which the schedule '{self.schedule}' "
                f"does not read. Set schedule to {' or '.join(readers)}, or remove {name}."
            )
        return self

    @model_validator(mode="after")
    def _pieces_follow_each_other(self) -> "TimestepOptions":
        begins = [begin for begin, _, _ in self.pieces]
        if begins[0] != 0 or begins != sorted(set(begins)):
            raise ValueError(
                f"the pieces begin at {', '.join(map(str, begins))} of the training, but the first "
                "must begin at 0, and each of the others after the one before."
            )
        for begin, low, high in self.pieces:
            if low >= high:
                raise ValueError(
                    f"low = {low} must lie below high = {high} in the piece that begins at {begin}."
                )
        return self


def timestep_range(
    options: TimestepOptions, step: Step, schedule: NoiseSchedule
) -> tuple[int, int]:
    """The lowest and the highest t at this step, inclusive; equal where t is deterministic."""
    lowest, highest = _RANGES[options.schedule](options, step, len(schedule))
    return index_at(lowest, len(schedule)), index_at(highest, len(schedule))


def highest_fraction(options: TimestepOptions) -> float:
    """The highest t of the whole training, as a fraction of the noise schedule."""
    if options.schedule == "pieces":
        return max(high for _, _, high in options.pieces)
    return options.high


def sample_timesteps(
    options: TimestepOptions,
    count: int,
    *,
    step: Step,
    schedule: NoiseSchedule,
    generator: torch.Generator,
) -> Timesteps:
    """t [count] as int64 on the generator's device: uniform over `timestep_range`.

    Deterministic schedules draw nothing.
    """
    lowest, highest = timestep_range(options, step, schedule)
    if lowest == highest:
        return torch.full((count,), lowest, device=generator.device)
    draws = 1 if options.shared else count
    t = torch.randint(lowest, highest + 1, (draws,), generator=generator, device=generator.device)
    return t.repeat(count) if options.shared else t


def dreamtime_weights(length: int) -> Tensor:
    """W(t) = exp(−(t − m1)²/2s1²) above m1, 1 between m2 and m1, exp(−(t − m2)²/2s2²) below m2.

    As [length] float64, not normalised. This is the first version of the paper, the one that the
    ESD paper combines with; the second multiplies by σ/α and has one Gaussian.
    """
    u = torch.arange(length, dtype=torch.float64) / length
    above = (u - DREAMTIME_M1).clamp(min=0) / DREAMTIME_S1
    below = (DREAMTIME_M2 - u).clamp(min=0) / DREAMTIME_S2
    return torch.exp(-(above.square() + below.square()) / 2)


# Each of the following gives the lowest and the highest t as fractions of the noise schedule.
def _uniform(options: TimestepOptions, step: Step, length: int) -> tuple[float, float]:
    return options.low, options.high


def _hard_switch(options: TimestepOptions, step: Step, length: int) -> tuple[float, float]:
    before = step.fraction < options.switch_at
    return options.low, options.high if before else options.high_after


def _linear_anneal(options: TimestepOptions, step: Step, length: int) -> tuple[float, float]:
    progress = min(step.fraction / options.anneal_until, 1.0)
    return options.low, options.high + (options.high_after - options.high) * progress


def _linear_descent(options: TimestepOptions, step: Step, length: int) -> tuple[float, float]:
    progress = min(step.fraction / options.anneal_until, 1.0)
    t = options.high + (options.low_end - options.high) * progress
    return t, t


def _dreamtime(options: TimestepOptions, step: Step, length: int) -> tuple[float, float]:
    """t(i) = argmin_t |Σ_{s ≥ t} W(s) − i/N|, W normalised over low ... high."""
    first, last = index_at(options.low, length), index_at(options.high, length)
    weights = dreamtime_weights(length)[first : last + 1]
    tail = weights.flip(0).cumsum(0).flip(0) / weights.sum()
    t = first + int((tail - step.fraction).abs().argmin())
    return t / length, t / length


def _back_and_forth(options: TimestepOptions, step: Step, length: int) -> tuple[float, float]:
    """Block k < n: [(n−1−k)/n, high]. Block n + j: [low, (n−j)/n]. Both kept in [low, high].

    RecDreamer's BNF (appendix B.3): n = 2 gives [.5, .98], [.02, .98], [.02, .98], [.02, .5].
    """
    n = options.blocks
    block = 2 * n * step.index // step.total
    if block < n:
        return min(max((n - 1 - block) / n, options.low), options.high), options.high
    return options.low, max(min((2 * n - block) / n, options.high), options.low)


def _pieces(options: TimestepOptions, step: Step, length: int) -> tuple[float, float]:
    *_, (_, low, high) = (piece for piece in options.pieces if piece[0] <= step.fraction)
    return low, high


_RANGES: Mapping[ScheduleName, Callable[[TimestepOptions, Step, int], tuple[float, float]]] = (
    MappingProxyType(
        {
            "uniform": _uniform,
            "hard-switch": _hard_switch,
            "linear-anneal": _linear_anneal,
            "linear-descent": _linear_descent,
            "dreamtime": _dreamtime,
            "back-and-forth": _back_and_forth,
            "pieces": _pieces,
        }
    )
)


def index_at(fraction: float, length: int) -> int:
    # Rounded, as 0.29·100 is 28.999...; and 1.0 means the last index.
    return min(round(fraction * length), length - 1)
