"""`score-distill schema`: the JSON schema of experiment files, with all installed plugins."""

import argparse
import json
from typing import Any

from sd_core.camera_sampling import CameraOptions
from sd_core.entries import Entry
from sd_core.experiment import options_of
from sd_core.experiment_options import ExperimentOptions
from sd_core.plugins import Plugins


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """Print the schema."""
    print(json.dumps(experiment_schema(plugins), indent=2))
    return 0


def experiment_schema(plugins: Plugins) -> dict[str, Any]:
    """The schema of `ExperimentOptions`, where a table that chooses a plugin is one of its kind."""
    schema = ExperimentOptions.model_json_schema()
    shared = schema["$defs"]
    for kind in ("guidance", "renderer", "prior"):
        entries = plugins.of_kind(kind)
        bare_name = {"type": "string", "enum": list(entries)}
        shared[kind] = {
            "anyOf": [bare_name, *(_plugin_schema(entry, shared) for entry in entries.values())]
        }
    schema["properties"]["prior"] = {"$ref": "#/$defs/prior"}
    schema["properties"]["prompt"] = {
        "anyOf": [{"type": "string", "minLength": 1}, schema["properties"]["prompt"]]
    }
    stage = shared["StageOptions"]["properties"]
    stage["guidance"] = {"$ref": "#/$defs/guidance"}
    stage["renderer"] = {"anyOf": [{"$ref": "#/$defs/renderer"}, {"type": "null"}]}
    stage["cameras"] = {"$ref": "#/$defs/CameraOptions"}
    shared["CameraOptions"] = CameraOptions.model_json_schema()
    return schema


def _plugin_schema(entry: Entry, shared: dict[str, Any]) -> dict[str, Any]:
    """A plugin's own options plus its name; nested tables go to `shared`, under its name."""
    own = f"{entry.kind}.{entry.name}."
    schema: dict[str, Any] = options_of(entry).model_json_schema(
        ref_template="#/$defs/" + own + "{model}"
    )
    shared.update({own + name: table for name, table in schema.pop("$defs", {}).items()})
    schema["title"] = f"{entry.kind} {entry.name}"
    schema["properties"] = {"name": {"const": entry.name}, **schema.get("properties", {})}
    schema["required"] = ["name", *schema.get("required", [])]
    return schema
