"""RecDreamer's pEnt (table 1), by its own classifier, of what toybox_methods.py has made.

    python benchmarks/paper_entropies.py [--methods vsd usd] [--prompts 10]

Asks `score-distill evaluate` for matching-pose-entropy, with the true sides as templates, of each
finished run under runs/toybox; keeps what it says in records/paper_entropies.jsonl, and rewrites
from that its section of docs/results.md. Runs that are not there are left out.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from _methods import METHODS
from _records import Records, commit, made_with
from _report import machine, write_section
from _runs import finished, score_distill
from _toys import MATCHING, TEMPLATES
from toybox_methods import DOCS, PROMPTS, Part

from sd_core.tables import markdown

METRIC, SEEDS = "matching-pose-entropy", 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--methods", nargs="+", default=["vsd", "usd"], choices=list(METHODS))
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="so many of the ten")
    parsed = parser.parse_args()
    records = Records("paper_entropies", "method", "prompt")
    parts = [
        part
        for prompt in PROMPTS[: parsed.prompts]
        for part in (Part(method, prompt) for method in parsed.methods)
        if not records.of(part.method, part.prompt)
        and all(finished(part.folder(seed)) for seed in range(SEEDS))
    ]
    records.collect([lambda part=part: _measured(part) for part in parts], at_once=1)
    write_section("paper-entropies", _section(list(records)), DOCS / "results.md")


def _measured(part: Part) -> dict[str, Any]:
    folders = [part.folder(seed) for seed in range(SEEDS)]
    options = [word.replace(TEMPLATES, str(part.templates())) for word in MATCHING]
    told = [word for option in options for word in ("--set", f"{METRIC}.{option}")]
    score_distill("evaluate", *map(str, folders), "--metrics", METRIC, *told)
    return {
        "method": part.method,
        "prompt": part.prompt,
        "commit": commit(),
        "machine": machine("sd-guidance-usd", "sd-toybox", "torch"),
        METRIC: [
            round(
                json.loads((folder / "metrics.json").read_text("utf-8"))["metrics"][METRIC][
                    "values"
                ][METRIC],
                4,
            )
            for folder in folders
        ],
    }


def _section(records: Sequence[Mapping[str, Any]]) -> str:
    methods = [name for name in METHODS if any(each["method"] == name for each in records)]
    found = {(each["method"], each["prompt"]): each[METRIC] for each in records}
    shared = [each for each in PROMPTS if all((method, each) in found for method in methods)]
    rows = []
    for method in methods:
        of_prompts = [statistics.mean(found[method, prompt]) for prompt in shared]
        runs = [value for prompt in shared for value in found[method, prompt]]
        told = f"{statistics.mean(runs):.2f} ± {statistics.stdev(runs):.2f}"
        rows.append([method, str(len(runs)), told, *(f"{each:.2f}" for each in of_prompts)])
    names = [prompt.removeprefix("a ") for prompt in shared]
    return f"""{markdown(["method", "runs", "pEnt", *names], rows)}

RecDreamer's pEnt, in nats of 1.386 at most: the entropy of the mean over 24 views of p(c|view), by
its own classifier (matching, as USD had it) with the toy's true sides as templates. Mean ± standard
deviation over runs, then the mean of {SEEDS} seeds of each prompt. A view that the classifier is
not sure of counts for several poses.

{made_with(records)}; made by benchmarks/paper_entropies.py.
"""


if __name__ == "__main__":
    main()
