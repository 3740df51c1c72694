"""Lists of prompts: those of papers that come with this package, and files of the user's own.

A file has one prompt on each line. Blank lines, and lines that begin with #, are left out.
T3Bench's own files, prompt_single.txt, prompt_surr.txt and prompt_multi.txt in data/ of its
repository, are of this kind, so `read_prompts` reads them; they come without a licence, so none is
in here.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sd_core.errors import ConfigError, nearest

NAMED: Final[Mapping[str, str]] = MappingProxyType(
    {"usd-table-7": "The 22 prompts of the USD paper (RecDreamer, arXiv 2502.12640), Table 7"}
)


def prompts_of(told: str) -> tuple[str, ...]:
    """A list that comes with this package, by its name, or a user's file, by its path."""
    return named_list(told) if told in NAMED else read_prompts(Path(told).expanduser())


def named_list(name: str) -> tuple[str, ...]:
    """A list that comes with this package."""
    if name not in NAMED:
        raise ConfigError(
            f"there is no list of prompts '{name}'. Lists: {', '.join(NAMED)}. Or name a file with "
            f"one prompt on each line.{nearest(name, NAMED)}"
        )
    text = (files("sd_metrics") / "data" / f"{name}.txt").read_text("utf-8")
    return parse_prompts(text, f"{name}.txt")


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a user's file, in its order."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"cannot read the prompts in {path}: {reason}. Name a text file with one prompt on "
            "each line."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"cannot read the prompts in {path}: it is no UTF-8 text. Save it as UTF-8."
        ) from None
    return parse_prompts(text, str(path))


def parse_prompts(text: str, where: str) -> tuple[str, ...]:
    """One prompt a line, none twice; `where` is what errors call the text."""
    found: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        prompt = line.strip()
        if not prompt or prompt.startswith("#"):
            continue
        if prompt in found:
            raise ConfigError(
                f"{where}: line {number} repeats the prompt '{prompt}' of line {found[prompt]}, "
                "expected each one once. Delete one of them."
            )
        found[prompt] = number
    if not found:
        raise ConfigError(
            f"{where} has no prompts, expected one on each line; lines that begin with # do not "
            "count. Write some."
        )
    return tuple(found)
