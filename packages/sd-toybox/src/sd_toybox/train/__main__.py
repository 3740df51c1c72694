"""The command: `python -m sd_toybox.train --help`."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from sd_core.errors import ScoreDistillationError

_PROGRAM = "python -m sd_toybox.train"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the model is made; 2, with one line, where the user can mend it."""
    given = _parser().parse_args(arguments)
    try:
        _make(given)
    except ScoreDistillationError as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{_PROGRAM}: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _make(given: argparse.Namespace) -> None:
    # Here, so that --help is quick.
    import torch

    from sd_toybox.model.folders import shipped_folder
    from sd_toybox.train.make import Order, make
    from sd_toybox.train.plan import QUICK, plan_for

    _quiet()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    plan = QUICK if given.quick else plan_for(given.minutes)
    output = given.output or shipped_folder()
    make(Order(plan, given.seed, given.work, output, lambda line: print(line, flush=True)))


def _quiet() -> None:
    """The libraries' own progress bars and advice would tear ours apart."""
    for library in ("diffusers", "transformers"):
        logging: Any = import_module(f"{library}.utils.logging")
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Makes the toybox's model from nothing: pictures, a VAE, a CLIP model, a "
        "diffusion model, measurements and a model card. Started again, it goes on.",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs/toybox-training"),
        help="where everything is kept meanwhile, about 1 GB (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, help="the model's folder (default: where the package looks)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: 0)")
    parser.add_argument("--threads", type=int, help="of torch; another number gives other rounding")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        type=float,
        default=90.0,
        help="on two cores; fewer give a worse model (default: 90)",
    )
    length.add_argument(
        "--quick", action="store_true", help="a trial of a minute, of tiny networks"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
