"""`metrics.json`: what was measured of a run or of a folder of pictures, and how."""

import json
from pathlib import Path

from sd_core.atomic import write_text
from sd_core.errors import RunFolderError
from sd_core.experiment_options import Table
from sd_core.locks import turn_in

SCHEMA = 1


def read_record(path: Path) -> Table | None:
    """What an earlier evaluation wrote; None where there was none."""
    try:
        record: Table = json.loads(path.read_text("utf-8"))
        schema = int(record["schema"])
        if not all(isinstance(record[key], dict) for key in ("views", "scene", "metrics")):
            raise ValueError("views, scene or metrics is no table")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({error}). Is it damaged? Move it away to evaluate again."
        ) from None
    if schema > SCHEMA:
        raise RunFolderError(
            f"{path} has schema {schema}, this sd-core writes {SCHEMA}. Update sd-core, or move it "
            "away."
        )
    return record


def write_record(path: Path, told: Table) -> list[str]:
    """Adds to what is there; gives the names of the metrics that had to go.

    Processes that judge the same folder take turns, so that none loses what another has added.
    """
    with turn_in(path.parent):
        record, dropped = merged(read_record(path), {"schema": SCHEMA, **told})
        write_text(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return dropped


def merged(earlier: Table | None, record: Table) -> tuple[Table, list[str]]:
    """The record with the other metrics of an earlier one, and the names of those it drops.

    Only metrics of the same views of the same scene can stand in one file.
    """
    if earlier is None:
        return record, []
    others = {
        name: told for name, told in earlier["metrics"].items() if name not in record["metrics"]
    }
    if any(earlier[key] != record[key] for key in ("views", "scene")):
        return record, sorted(others)
    return {**record, "metrics": dict(sorted({**others, **record["metrics"]}.items()))}, []
