"""The ranges against the papers' numbers; DreamTime against brute force; draws and their bounds."""

import math
from itertools import pairwise
from typing import Any, get_args

import pytest
import torch

from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.noising import NoiseSchedule
from sd_core.step import Step
from sd_core.timesteps import (
    ScheduleName,
    TimestepOptions,
    dreamtime_weights,
    sample_timesteps,
    timestep_range,
)

SCHEDULE = NoiseSchedule.scaled_linear()
NAMES: tuple[ScheduleName, ...] = get_args(ScheduleName)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ranges(options: TimestepOptions, total: int) -> list[tuple[int, int]]:
    return [timestep_range(options, Step(i, total), SCHEDULE) for i in range(total)]


def test_fraction_goes_from_zero_to_just_below_one() -> None:
    assert [Step(i, 4).fraction for i in range(4)] == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(("index", "total"), [(-1, 4), (4, 4), (0, 0)])
def test_a_step_outside_the_training_is_refused(index: int, total: int) -> None:
    with pytest.raises(ValueError, match="0 <= index < total"):
        Step(index, total)


def test_uniform_keeps_its_range_throughout() -> None:
    assert set(ranges(TimestepOptions(), 100)) == {(20, 980)}


def test_hard_switch_drops_at_step_5000_of_25000() -> None:
    options = TimestepOptions(schedule="hard-switch")
    assert timestep_range(options, Step(0, 25000), SCHEDULE) == (20, 980)
    assert timestep_range(options, Step(4999, 25000), SCHEDULE) == (20, 980)
    assert timestep_range(options, Step(5000, 25000), SCHEDULE) == (20, 500)
    assert timestep_range(options, Step(24999, 25000), SCHEDULE) == (20, 500)


def test_linear_anneal_sinks_steadily_to_high_after() -> None:
    options = TimestepOptions(schedule="linear-anneal")
    assert ranges(options, 4) == [(20, 980), (20, 860), (20, 740), (20, 620)]


def test_linear_anneal_stays_where_it_arrived() -> None:
    # ISM: 1500 steps of warm-up in 5000.
    options = TimestepOptions(schedule="linear-anneal", anneal_until=0.3)
    for index, highest in ((0, 980), (750, 740), (1500, 500), (4999, 500)):
        assert timestep_range(options, Step(index, 5000), SCHEDULE) == (20, highest)


def test_linear_descent_is_the_line_from_high_to_low_end() -> None:
    options = TimestepOptions(schedule="linear-descent")
    for index in (0, 1, 2500, 5000, 9999):
        line = 1000 * (0.25 + 0.73 * (1 - index / 10000))
        lowest, highest = timestep_range(options, Step(index, 10000), SCHEDULE)
        assert lowest == highest
        assert abs(lowest - line) <= 0.5


def test_back_and_forth_with_two_blocks_is_the_papers_four_ranges() -> None:
    options = TimestepOptions(schedule="back-and-forth", blocks=2)
    assert ranges(options, 4) == [(500, 980), (20, 980), (20, 980), (20, 500)]


def test_back_and_forth_blocks_are_equally_long() -> None:
    options = TimestepOptions(schedule="back-and-forth", blocks=2)
    expected = [(500, 980)] * 25 + [(20, 980)] * 50 + [(20, 500)] * 25
    assert ranges(options, 100) == expected


def test_back_and_forth_with_ten_blocks_grows_and_shrinks_by_a_hundred() -> None:
    options = TimestepOptions(schedule="back-and-forth", blocks=10)
    growing = [(t, 980) for t in (900, 800, 700, 600, 500, 400, 300, 200, 100, 20)]
    shrinking = [(20, t) for t in (980, 900, 800, 700, 600, 500, 400, 300, 200, 100)]
    assert ranges(options, 20) == growing + shrinking


def test_back_and_forth_stays_inside_narrow_bounds() -> None:
    options = TimestepOptions(schedule="back-and-forth", blocks=10, low=0.3, high=0.5)
    for lowest, highest in ranges(options, 40):
        assert 300 <= lowest <= highest <= 500


def test_pieces_hold_from_their_beginning_to_that_of_the_next() -> None:
    options = TimestepOptions(schedule="pieces", pieces=((0.0, 0.5, 0.9), (0.25, 0.1, 0.4)))
    assert ranges(options, 8) == [(500, 900)] * 2 + [(100, 400)] * 6
    alone = TimestepOptions(schedule="pieces", pieces=((0.0, 0.2, 1.0),))
    assert ranges(alone, 3) == [(200, 999)] * 3


def test_dreamtime_weight_is_flat_in_the_middle_with_gaussian_flanks() -> None:
    weights = dreamtime_weights(1000)
    assert weights[500:801].tolist() == [1.0] * 301
    assert float(weights[400]) == pytest.approx(math.exp(-0.5))  # one s2 below m2
    assert float(weights[950]) == pytest.approx(math.exp(-0.125))  # half an s1 above m1


def test_dreamtime_agrees_with_brute_force() -> None:
    options, total = TimestepOptions(schedule="dreamtime"), 60

    def weight(t: int) -> float:
        if t > 800:
            return math.exp(-((t - 800) ** 2) / (2 * 300**2))
        return 1.0 if t >= 500 else math.exp(-((t - 500) ** 2) / (2 * 100**2))

    whole = math.fsum(weight(t) for t in range(20, 981))
    tails = {t: math.fsum(weight(s) for s in range(t, 981)) / whole for t in range(20, 981)}
    for index in range(total):
        nearest = min(tails, key=lambda t: abs(tails[t] - index / total))
        assert timestep_range(options, Step(index, total), SCHEDULE) == (nearest, nearest)


@pytest.mark.parametrize("name", ["dreamtime", "linear-descent"])
def test_deterministic_times_never_rise(name: ScheduleName) -> None:
    times = [lowest for lowest, _ in ranges(TimestepOptions(schedule=name), 500)]
    assert times[0] == 980
    assert all(later <= earlier for earlier, later in pairwise(times))


def test_dreamtime_lingers_where_its_weight_is_large() -> None:
    times = [lowest for lowest, _ in ranges(TimestepOptions(schedule="dreamtime"), 1000)]
    middle = sum(500 <= t <= 800 for t in times) / 1000
    share = float(dreamtime_weights(1000)[500:801].sum() / dreamtime_weights(1000)[20:981].sum())
    assert middle == pytest.approx(share, abs=0.005)
    assert middle > 0.45


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [4, 50, 1000])
def test_ranges_stay_inside_the_bounds_on_every_schedule_length(
    name: ScheduleName, length: int
) -> None:
    options, schedule = TimestepOptions(schedule=name), NoiseSchedule.linear(steps=length)
    for index in range(37):
        lowest, highest = timestep_range(options, Step(index, 37), schedule)
        assert round(0.02 * length) <= lowest <= highest <= min(round(0.98 * length), length - 1)


def test_high_of_one_is_the_last_index() -> None:
    assert timestep_range(TimestepOptions(low=0.0, high=1.0), Step(0, 1), SCHEDULE) == (0, 999)


@pytest.mark.parametrize("name", NAMES)
def test_sampled_times_are_int64_within_the_range(name: ScheduleName) -> None:
    options = TimestepOptions(schedule=name)
    for index in (0, 7, 19):
        step = Step(index, 20)
        lowest, highest = timestep_range(options, step, SCHEDULE)
        t = sample_timesteps(options, 64, step=step, schedule=SCHEDULE, generator=generator())
        assert t.shape == (64,)
        assert t.dtype == torch.int64
        assert lowest <= int(t.min()) <= int(t.max()) <= highest


def test_both_ends_of_the_range_are_drawn() -> None:
    options = TimestepOptions(low=0.5, high=0.503)
    t = sample_timesteps(options, 200, step=Step(0, 1), schedule=SCHEDULE, generator=generator())
    assert set(t.tolist()) == {500, 501, 502, 503}


def test_each_sample_has_its_own_time_by_default() -> None:
    t = sample_timesteps(
        TimestepOptions(), 32, step=Step(0, 1), schedule=SCHEDULE, generator=generator()
    )
    assert torch.equal(t, torch.randint(20, 981, (32,), generator=generator()))


def test_a_shared_time_is_one_draw_for_the_whole_batch() -> None:
    t = sample_timesteps(
        TimestepOptions(shared=True), 8, step=Step(0, 1), schedule=SCHEDULE, generator=generator()
    )
    assert t.tolist() == torch.randint(20, 981, (1,), generator=generator()).tolist() * 8


@pytest.mark.parametrize("name", ["dreamtime", "linear-descent"])
def test_deterministic_times_draw_nothing(name: ScheduleName) -> None:
    source = generator()
    before = source.get_state()
    options = TimestepOptions(schedule=name)
    sample_timesteps(options, 8, step=Step(3, 9), schedule=SCHEDULE, generator=source)
    assert torch.equal(source.get_state(), before)


@pytest.mark.parametrize("name", NAMES)
def test_times_depend_on_the_step_alone(name: ScheduleName) -> None:
    options = TimestepOptions(schedule=name)
    forwards = ranges(options, 30)
    backwards = [timestep_range(options, Step(i, 30), SCHEDULE) for i in reversed(range(30))]
    assert forwards == backwards[::-1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low": 0.6, "high": 0.6}, "t: low = 0.6 must lie below high = 0.6."),
        (
            {"schedule": "pieces", "pieces": [[0.1, 0.2, 0.5]]},
            "t: the pieces begin at 0.1 of the training, but the first must begin at 0, and each "
            "of the others after the one before.",
        ),
        (
            {"schedule": "pieces", "pieces": [[0.0, 0.2, 0.5], [0.4, 0.1, 0.2], [0.4, 0.0, 0.1]]},
            "t: the pieces begin at 0.0, 0.4, 0.4 of the training, but the first must begin at 0, "
            "and each of the others after the one before.",
        ),
        (
            {"schedule": "pieces", "pieces": [[0.0, 0.5, 0.5]]},
            "t: low = 0.5 must lie below high = 0.5 in the piece that begins at 0.0.",
        ),
        (
            {"schedule": "hard-switch", "high": 0.4},
            "t: high_after = 0.5 must lie above low = 0.02 and not above high = 0.4.",
        ),
        (
            {"schedule": "linear-anneal", "high_after": 0.01},
            "t: high_after = 0.01 must lie above low = 0.02 and not above high = 0.98.",
        ),
        (
            {"schedule": "linear-descent", "high": 0.2},
            "t: low_end = 0.25 must lie below high = 0.2 and not below low = 0.02.",
        ),
    ],
)
def test_bounds_out_of_order_are_refused_in_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(TimestepOptions, values, where="t")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            {"blocks": 4},
            "t: blocks is 4, which the schedule 'uniform' does not read. Set schedule to "
            "back-and-forth, or remove blocks.",
        ),
        (
            {"high_after": 0.3},
            "t: high_after is 0.3, which the schedule 'uniform' does not read. Set schedule to "
            "hard-switch or linear-anneal, or remove high_after.",
        ),
    ],
)
def test_a_forgotten_schedule_is_told(told: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(TimestepOptions, told, where="t")
    assert str(caught.value) == message
    # Chosen by name, such as to try another than a file has, it may leave the others' alone.
    parse_options(TimestepOptions, {"schedule": "uniform", **told}, where="t")


def test_bounds_of_other_schedules_do_not_matter() -> None:
    assert TimestepOptions(high=0.2).low_end == 0.25


@pytest.mark.parametrize(
    "values",
    [
        {"schedule": "hyperbolic"},
        {"low": -0.1},
        {"high": 1.5},
        {"switch_at": 2},
        {"anneal_until": 0},
        {"blocks": 0},
    ],
)
def test_values_out_of_bounds_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parse_options(TimestepOptions, values, where="t")


def test_every_option_is_described() -> None:
    assert all(field.description for field in TimestepOptions.model_fields.values())
