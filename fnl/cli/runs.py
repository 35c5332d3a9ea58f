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

INTERRUPTED = "interrupted"
"""Status of a run whose process is gone: `fnl resume` goes on with it."""
DAMAGED = "damaged"
"""Status of a run whose record or table of rounds is not what was written."""

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
    from fnl.runtime.run_record import RUNNING, read_run

    one: dict[str, Any] = dict.fromkeys(("name", "status", "rounds", "of", *_SHOWN))
    one |= {"engine": None, "started": None, "name": path.name, "rounds": 0}
    try:
        record = read_run(path)
    except RunError:
        return one | {"status": DAMAGED}
    interrupted = record["status"] == RUNNING and not is_locked(path)
    config, seconds = record.get("config"), record.get("seconds")
    of = config.get("run.rounds") if isinstance(config, dict) else None
    one |= {
        "status": INTERRUPTED if interrupted else str(record["status"]),
        "of": of if isinstance(of, int) else None,
        "seconds": float(seconds) if isinstance(seconds, int | float) else None,
    }
    one |= {key: str(record.get(key)) for key in ("engine", "started")}
    table = path / "rounds.parquet"
    try:
        return one | (_last_values(table) if table.exists() else {})
    except RunError:
        return one | {"status": DAMAGED}


def _last_values(path: Path) -> dict[str, Any]:
    """Return the last value of each column of interest, and the rejected replies of all rounds.

    Raises:
        RunError: if it is no table of rounds.
    """
    from fnl.runtime.table_reading import read_parquet

    rounds = read_parquet(path)
    shown = [name for name in ("round", *_SHOWN) if name in rounds.columns]
    if any(not rounds[name].dtype.is_numeric() for name in shown):
        raise RunError(f"{path} is not a table of rounds")
    names = [name for name in ("accuracy", "firing_rate", "epsilon_max") if name in shown]
    last = {name: rounds[name].drop_nulls().last() for name in names if rounds[name].count()}
    if "round" in shown:
        last["rounds"] = int(rounds["round"].drop_nulls().last() or 0)  # type: ignore[arg-type]
    if "rejected" in shown:
        last["rejected"] = int(rounds["rejected"].sum())
    return last


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` with what JSON has no number for as text."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
