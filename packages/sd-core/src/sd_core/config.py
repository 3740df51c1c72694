"""Options: what a user may set, typed, bounded and described; and the errors when he slips.

Every plugin's configuration is an `Options` subclass whose fields come from `option(...)`. From it
follow the check of experiment files, `score-distill describe` and the JSON schema.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from sd_core.errors import ConfigError, nearest


class Options(BaseModel):
    """Frozen typed options. An unknown key is an error, a default must pass its own bounds."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _tables_begin_with_their_defaults(cls, values: Any) -> Any:
        """A table says what differs from this class's default for it, not from the table's own."""
        if not isinstance(values, Mapping):
            return values
        tables = {
            name: field.default.model_dump(exclude_unset=True)
            for name, field in cls.model_fields.items()
            if isinstance(field.default, Options) and isinstance(values.get(name), Mapping)
        }
        return {**values, **over({name: values[name] for name in tables}, tables)}

    def is_changed(self, name: str) -> bool:
        """Whether that option is not as by default, to refuse what would have no effect.

        By value and not by what was told, since a recorded experiment tells every option.
        """
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    def made_of(self) -> dict[str, dict[str, Any]]:
        """Other plugins of the same kind that this one is made of, each with its table of options.

        The experiment checks them with everything else, under `place_of(name)`, and records them;
        the `find` of a `GuidanceContext` or a `RendererContext` builds them and no others. A
        renderer without a name, "", is the usual one.
        """
        return {}

    def place_of(self, name: str) -> str:
        """Which of these options holds the table of one that this is made of."""
        return f"options.{name}"

    def resolved(self, parts: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """As an experiment file would say it, with every default.

        `parts` holds the same of all that it is made of, for whoever says them in a field.
        """
        return self.model_dump(mode="json")


AnyOptions = TypeVar("AnyOptions", bound=Options)


def option(
    default: Any,
    description: str,
    *,
    symbol: str | None = None,
    ge: int | float | None = None,
    gt: int | float | None = None,
    le: int | float | None = None,
    lt: int | float | None = None,
    min_length: int | None = None,
) -> Any:
    """A field with a default, a description, bounds, and the symbol that its paper uses."""
    bounds = {"ge": ge, "gt": gt, "le": le, "lt": lt, "min_length": min_length}
    given: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
    if symbol is not None:
        given["json_schema_extra"] = {"symbol": symbol}
    return Field(default, description=description, **given)


def parse_options(kind: type[AnyOptions], values: Mapping[str, Any], *, where: str) -> AnyOptions:
    """Values as a user wrote them, made into `kind`, or a `ConfigError` that begins with `where`.

    `where` is the dotted path of the table, such as `stages.0.guidance`, or "" for the root.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(_one_line(kind, error.errors()[0], where)) from None


_KIND_OF_ERROR = {"dict_type": "a table", "model_type": "a table", "tuple_type": "a list"}


def _one_line(kind: type[Options], detail: ErrorDetails, where: str) -> str:
    *parents, last = [str(part) for part in detail["loc"]] or [""]
    path = ".".join(part for part in (where, *parents, last) if part)
    if detail["type"] == "extra_forbidden":
        known = sorted(_options_at(kind, parents).model_fields)
        place = ".".join(part for part in (where, *parents) if part) or "the experiment"
        return (
            f"unknown key '{last}' in {place}. Known keys: {', '.join(known)}."
            f"{nearest(last, known)}"
        )
    if detail["type"] == "missing":
        return f"{path} is missing. Add it: it has no default."
    # pydantic begins with "Input", "String" or "Tuple", and has Python's words for TOML's kinds.
    reason = re.sub(r"^(Value error, |[A-Z][a-z]+ (?=should ))", "", detail["msg"])
    if detail["type"] in _KIND_OF_ERROR:
        reason = f"should be {_KIND_OF_ERROR[detail['type']]}"
    if detail["type"] == "value_error":
        return f"{path or 'the experiment'}: {reason}"
    return f"{path} is {shown(detail['input'])}, but it {reason}."


def _options_at(kind: type[Options], parents: list[str]) -> type[Options]:
    """The nested options class that `parents` lead to; list positions are passed over."""
    for name in parents:
        field = kind.model_fields.get(name)
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, Options):
                kind = candidate
    return kind


def shown(value: Any) -> str:
    """A value for an error message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def over(told: Mapping[str, object], default: Mapping[str, object]) -> dict[str, object]:
    """`told` laid over `default`; a table in both is laid over in the same way."""
    result = dict(default)
    for key, value in told.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = over(value, below)
        else:
            result[key] = value
    return result
