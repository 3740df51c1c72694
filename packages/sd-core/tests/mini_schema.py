"""As much of JSON schema as our own schemas use; what it does not know is an error."""

from typing import Any

_KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
_REMARKS = {"title", "description", "default", "symbol", "$defs"}


def mistakes(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "") -> list[str]:
    """Where and how the value breaks the schema."""
    found: list[str] = []
    for word, rule in schema.items():
        if word == "$ref":
            target = root
            for name in rule.removeprefix("#/").split("/"):
                target = target[name]
            found += mistakes(value, target, root, at)
        elif word == "anyOf":
            if all(mistakes(value, option, root, at) for option in rule):
                found.append(f"{at}: fits none of {len(rule)}")
        elif word not in _REMARKS and not _holds(word, rule, value, schema):
            found.append(f"{at}: {word} {rule}, got {value!r}")
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                found += mistakes(value[name], inner, root, f"{at}.{name}")
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        rest = [schema.get("items") or {}] * (len(value) - len(first))
        for index, (item, inner) in enumerate(zip(value, [*first, *rest], strict=False)):
            found += mistakes(item, inner, root, f"{at}.{index}")
    return found


def _holds(word: str, rule: Any, value: Any, schema: dict[str, Any]) -> bool:
    if word == "type":
        truth = isinstance(value, bool)
        return isinstance(value, _KINDS[rule]) and (truth == (rule == "boolean"))
    if word == "additionalProperties":
        known = schema.get("properties", {})
        return rule is not False or not isinstance(value, dict) or set(value) <= set(known)
    compare = {
        "const": lambda: value == rule,
        "enum": lambda: value in rule,
        "required": lambda: set(rule) <= set(value),
        "properties": lambda: True,
        "items": lambda: True,
        "prefixItems": lambda: True,
        "minItems": lambda: len(value) >= rule,
        "maxItems": lambda: len(value) <= rule,
        "minLength": lambda: len(value) >= rule,
        "minimum": lambda: value >= rule,
        "maximum": lambda: value <= rule,
        "exclusiveMinimum": lambda: value > rule,
        "exclusiveMaximum": lambda: value < rule,
    }
    try:
        return compare[word]()
    except TypeError:  # another kind of value, which "type" has told
        return False
