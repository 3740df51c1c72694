"""`score-distill describe`: every option with its symbol, default, bounds and meaning."""

import argparse
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sd_core.camera_sampling import CameraOptions
from sd_core.config import Options
from sd_core.entries import Entry
from sd_core.errors import ConfigError, nearest
from sd_core.estimator import EstimatorOptions
from sd_core.experiment import options_of
from sd_core.experiment_options import (
    ExperimentOptions,
    OptimiserOptions,
    RunOptions,
    StageOptions,
)
from sd_core.plugins import KINDS, Plugins
from sd_core.presets import PresetOptions
from sd_core.prompts import PromptOptions
from sd_core.timesteps import TimestepOptions

TABLES: dict[str, type[Options]] = {
    "experiment": ExperimentOptions,
    "stage": StageOptions,
    "prompt": PromptOptions,
    "cameras": CameraOptions,
    "optimiser": OptimiserOptions,
    "run": RunOptions,
    "timesteps": TimestepOptions,
    "estimator": EstimatorOptions,
}


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """Print one table of options."""
    kind, name = parsed.kind, parsed.name
    if kind in TABLES and name is None:
        _print_options(TABLES[kind], f"[{kind}]")
        return 0
    if kind in TABLES:
        raise ConfigError(f"{kind} is one table, without names. Write: describe {kind}.")
    if kind not in KINDS:
        known = [*KINDS, *TABLES]
        raise ConfigError(
            f"nothing called '{kind}' to describe. Known: {', '.join(known)}.{nearest(kind, known)}"
        )
    if name is None:
        names = ", ".join(plugins.of_kind(kind)) or "none installed"
        raise ConfigError(f"describe {kind} needs a name, one of: {names}.")
    entry: Entry = plugins.find(kind, name)
    heading = f"{kind} {name} ({plugins.source(kind, name)}): {entry.summary}\n{entry.reference}"
    _print_options(options_of(entry), heading)
    options = options_of(entry)
    if issubclass(options, PresetOptions):
        _print_presets(options)
    if kind == "renderer":
        _print_exports(entry)
    return 0


def _print_presets(options: type[PresetOptions]) -> None:
    for name, told in options.presets.items():
        print(f"\npreset '{name}' begins with:")
        for path, value in sorted(_flat(told).items()):
            print(f"  {path} = {_shown(value)}")


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted paths."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        inside = _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else None
        found |= inside or {f"{prefix}{name}": value}
    return found


def _print_exports(renderer: Entry) -> None:
    builder = renderer.load_build()
    if builder.export_kinds:
        kinds = ", ".join(builder.export_kinds)
        _print_options(builder.export_options, f"\nscore-distill export RUN --to {kinds}; --set:")


def _print_options(options: type[Options], heading: str) -> None:
    print(heading)
    for line in _lines(options, None, prefix=""):
        print(line)


def _lines(options: type[Options], values: Options | None, prefix: str) -> list[str]:
    """For each option; `values` are the defaults where a table is part of another."""
    lines = []
    for name, field in options.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if values is not None:
            default = getattr(values, name)
        if isinstance(default, Options):
            lines.append(f"\n  {prefix}{name}: {field.description}")
            lines.extend(_lines(type(default), default, f"{prefix}{name}."))
            continue
        symbol = _symbol(field)
        about = [f"default {_shown(default)}", *_bounds(field)]
        lines.append(f"\n  {prefix}{name}{f'  ({symbol})' if symbol else ''}  {', '.join(about)}")
        lines.append(f"      {field.description}")
    return lines


def _symbol(field: FieldInfo) -> str | None:
    extra = field.json_schema_extra
    return str(extra["symbol"]) if isinstance(extra, dict) and "symbol" in extra else None


def _bounds(field: FieldInfo) -> list[str]:
    """Bounds and choices in words, as far as pydantic tells them."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    words = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in signs.items()
        if hasattr(rule, name)
    ]
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        words.append("one of " + ", ".join(choices))
    return words


def _shown(default: Any) -> str:
    return "none, must be given" if default is PydanticUndefined else repr(default)
