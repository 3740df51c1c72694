"""The tables of methods on the toybox, from what the records keep of their runs."""

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from _records import made_with

from sd_core.report import bootstrap_interval
from sd_core.tables import markdown
from sd_toybox.world.poses import POSES

# Of all seeds of a prompt together (JSD's table 2): every run begins with the same grey ball.
DIVERSITY = ("iv-particles", "feature-similarity")

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
    "at that time, pauses included."
)
BESIDE_VSD = (
    *("less VSD", "prompts", "faces: fewer, as many, more", "pose entropy, both seen"),
    *("pose entropy", "consistency", "likeness", "seen", "IV of seeds", "alike"),
)
CAPTION_BESIDE_VSD = (
    "Each method less VSD on the same prompts, the mean over seeds first: mean over prompts, and "
    "its 95 % bootstrap interval. Faces, and the entropy of both seen: by run, where both objects "
    f"are seen in at least {WHOLE:.0%} of the views; an object that is seen in few has any entropy."
)

Record = Mapping[str, Any]
Methods = dict[str, dict[str, Record]]  # of each method, by prompt

# In every table, since others differ from them by one thing.
BESIDE = (
    *("sds", "vsd", "esd-1", "jsd", "usd"),
    *("esd-4-to-1-exact", "usd-esd-4-to-1", "usd-esd-4-to-1-exact-noised", "usd-esd-high-t-first"),
)


def tables(records: Sequence[Record]) -> str:
    """A row for each method, and what lies between it and VSD; methods that ran on fewer prompts in
    tables of their own, beside those that they vary on those prompts."""
    of_methods: Methods = {}
    for record in records:
        of_methods.setdefault(record["method"], {})[record["prompt"]] = record
    prompts = sorted({frozenset(own) for own in of_methods.values()}, key=len, reverse=True)
    whole = _restricted(of_methods, prompts[0])
    parts = [_table(whole), CAPTION]
    others = [method for method in whole if method != "vsd"]
    if "vsd" in whole and len(others) > 1:
        differences = [[method, *_less(whole[method], whole["vsd"])] for method in others]
        parts += [markdown(BESIDE_VSD, differences), CAPTION_BESIDE_VSD]
    for fewer in prompts[1:]:
        *some, last = (f'"{prompt}"' for prompt in sorted(fewer))
        named = f"{', '.join(some)} and {last}" if some else last
        own = {
            method: found
            for method, found in _restricted(of_methods, fewer).items()
            if method in BESIDE or of_methods[method].keys() == fewer
        }
        parts += [f"Of {named} alone:", _table(own)]
    made = f"{made_with(records)}; made by benchmarks/toybox_methods.py."
    return "\n\n".join([*parts, made])


def _restricted(of_methods: Methods, prompts: frozenset[str]) -> Methods:
    """To these prompts, and to the methods that have them all."""
    return {
        method: {prompt: own[prompt] for prompt in sorted(prompts)}
        for method, own in of_methods.items()
        if prompts <= own.keys()
    }


def _table(methods: Methods) -> str:
    return markdown(
        HEADER, [[method, *_row(list(own.values()))] for method, own in methods.items()]
    )


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
    counts, entropies = [0, 0, 0], []
    for one, other in pairs:
        seeds = [
            (a, b)
            for a, b in zip(one["seeds"], other["seeds"], strict=False)
            if min(_seen(a), _seen(b)) >= WHOLE
        ]
        for a, b in seeds:
            fewer, more = (sign * (b["janus-faces"] - a["janus-faces"]) > 0 for sign in (1, -1))
            counts[1 + more - fewer] += 1
        if seeds:
            entropies.append(
                statistics.mean(a["pose-entropy"] - b["pose-entropy"] for a, b in seeds)
            )
    measures: list[Callable[[Record], float]] = [
        *(partial(_of_seeds, name) for name in ("pose-entropy", "pose-consistency", "likeness")),
        lambda record: statistics.mean(map(_seen, record["seeds"])),
        *(partial(_of_all, name) for name in DIVERSITY),
    ]
    told = [_interval([of(one) - of(other) for one, other in pairs]) for of in measures]
    both_seen = _interval(entropies) if entropies else ""
    return str(len(pairs)), ", ".join(map(str, counts)), both_seen, *told


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
