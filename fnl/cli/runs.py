"""`fnl runs`: the run directories of a folder, side by side."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from fnl.cli.terminal import Json, out
from fnl.errors import RunError

_SHOWN = {"accuracy": ".3f", "firing_rate": ".3f", "epsilon_max": ".2f", "rejected": "d"}
_SHOWN |= {"seconds": ".1f"}
"""Numbers that the table has, and how they read."""


def runs(
    directory: Annotated[Path, typer.Argument(help="A folder of runs.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """List the runs in a folder side by side; an interrupted one can be resumed."""
    found = [summary(path.parent) for path in directory.glob("*/run.json")]
    if not found:
        raise RunError(f"{directory} has no runs: give the folder that run.results-dir named")
    found.sort(key=lambda one: (one["started"] or "", one["name"]))
    if as_json:
        out.print_json(json.dumps([_finite(one) for one in found]))
        return
    table = Table("run", "status", box=None)
    for name in ("rounds", "accuracy", "rate", "ε", "rejected", "seconds"):
        table.add_column(name, justify="right")
    for one in found:
        rounds = f"{one['rounds']}/{one['of']}" if one["of"] else str(one["rounds"])
        numbers = ((one[name], form) for name, form in _SHOWN.items())
        shown = ("–" if value is None else format(value, form) for value, form in numbers)
        table.add_row(one["name"], one["status"], rounds, *shown)
    out.print(table)


def summary(path: Path) -> dict[str, Any]:
    """Return a run in one line; None where there is no such number (yet)."""
    from fnl.runtime.run_lock import is_locked
    from fnl.runtime.run_record import INTERRUPTED, RUNNING, read_run

    one: dict[str, Any] = dict.fromkeys(("name", "status", "rounds", "of", *_SHOWN))
    one |= {"engine": None, "started": None, "name": path.name, "rounds": 0}
    try:
        record = read_run(path)
    except RunError:
        return one | {"status": "damaged"}
    interrupted = record["status"] == RUNNING and not is_locked(path)
    config, seconds = record.get("config"), record.get("seconds")
    of = config.get("run.rounds") if isinstance(config, dict) else None
    one |= _last_values(path / "rounds.parquet") | {
        "status": INTERRUPTED if interrupted else str(record["status"]),
        "of": of if isinstance(of, int) else None,
        "seconds": float(seconds) if isinstance(seconds, int | float) else None,
    }
    return one | {key: str(record.get(key)) for key in ("engine", "started")}


def _last_values(path: Path) -> dict[str, Any]:
    """Return the last value of each column of interest, and the rejected replies of all rounds."""
    import polars as pl

    try:
        rounds = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError):
        return {}
    names = [name for name in ("accuracy", "firing_rate", "epsilon_max") if name in rounds.columns]
    last = {name: rounds[name].drop_nulls().last() for name in names if rounds[name].count()}
    if "round" in rounds.columns:
        last["rounds"] = int(rounds["round"].drop_nulls().last() or 0)  # type: ignore[arg-type]
    if "rejected" in rounds.columns:
        last["rejected"] = int(rounds["rejected"].sum())
    return last


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` with what JSON has no number for as text."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
