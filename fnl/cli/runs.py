"""`fnl runs`: the run directories of a folder, side by side: what differs, and what came out."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fnl.cli.run_table import HEADS, NUMBERS, Run, say_reasons, table_of
from fnl.cli.terminal import Json, out
from fnl.errors import ConfigError, RunError, saying_why

_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge,
    "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_CONDITION = re.compile(r"^\s*([\w.-]+)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*$")


def runs(
    directory: Annotated[Path, typer.Argument(help="A folder of runs, or a grid's.")] = Path(
        "results"
    ),
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only runs of which this holds: privacy.epsilon=8, accuracy>0.5."),
    ] = None,
    sort: Annotated[
        str, typer.Option(help="A column or key; -accuracy: largest first. Default: by start.")
    ] = "started",
    csv: Annotated[Path | None, typer.Option(help="Also write a CSV file with all keys.")] = None,
    as_json: Json = False,
) -> None:
    """List the runs in a folder: what differs between them, and what came out.

    An interrupted one can be resumed.
    """
    folder = directory / "cells" if (directory / "grid.json").is_file() else directory
    found = [summary(path.parent) for path in sorted(folder.glob("*/run.json"))]
    if not found:
        raise RunError(f"{directory} has no runs: give the folder that run.results-dir named")
    for condition in where or ():
        found = _only(found, condition)
    found = _sorted(found, sort)
    if csv is not None and found:
        _write_csv(csv, found)
    if as_json:
        out.print_json(json.dumps([_finite(one) for one in found]))
        return
    if not found:
        out.print(f"no run matches: {', '.join(map(repr, where or ()))}")
        return
    out.print(table_of(found, elsewhere="--csv has all"))
    say_reasons(found)
    if csv is not None:
        out.print(f"table {csv.absolute()}")


def _only(found: Sequence[Run], condition: str) -> list[Run]:
    """Return those runs of which `condition` holds.

    Raises:
        ConfigError: if it is none, or names what no run has.
    """
    parsed = _CONDITION.match(condition)
    if parsed is None:
        raise ConfigError(f"--where {condition!r} is no condition: write privacy.epsilon=8")
    name, sign, text = parsed.groups()
    name = _long(found, name)
    _check_known(found, name, "--where")
    relation = _RELATIONS[sign]

    def holds(one: Run) -> bool:
        value = _value(one, name)
        try:
            wanted = type(value)(text) if isinstance(value, int | float) else text
            if isinstance(value, bool):
                wanted = text.lower() == "true"
        except ValueError:
            raise ConfigError(f"--where {condition!r}: {name} is a number, {text!r} none") from None
        return value is not None and relation(value, wanted)

    return [one for one in found if holds(one)]


def _sorted(found: list[Run], column: str) -> list[Run]:
    """Return the runs by a column or key; those without it come last."""
    name = _long(found, column.removeprefix("-"))
    if found:
        _check_known(found, name, "--sort")
    found = sorted(found, key=lambda one: one["name"])
    there = [one for one in found if _value(one, name) is not None]
    kinds = {isinstance(_value(one, name), str) for one in there}
    order = sorted(
        there,
        key=lambda one: _value(one, name) if len(kinds) == 1 else str(_value(one, name)),
        reverse=column.startswith("-"),
    )
    return order + [one for one in found if _value(one, name) is None]


def _long(found: Sequence[Run], name: str) -> str:
    """Return the key that the table calls `name`; `name` itself if it is none, or several are."""
    heads = {head: name for name, head in HEADS.items()} | {"ε": "epsilon_max"}
    if name in heads or (found and name in found[0]):
        return heads.get(name, name)
    keys = {key for one in found for key in one["config"] if key.endswith(f".{name}")}
    return keys.pop() if len(keys) == 1 else name


def _check_known(found: Sequence[Run], name: str, option: str) -> None:
    import difflib

    known = {key for one in found for key in (*one, *one["config"])} - {"config"}
    if found and name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(NUMBERS)}"
        raise ConfigError(f"{option}: no run has {name!r}: {hint}")


def _value(one: Run, name: str) -> Any:
    return one["config"].get(name) if "." in name else one.get(name)


def _write_csv(path: Path, found: Sequence[Run]) -> None:
    """Write all that is known of the runs, a row each, their keys as columns."""
    import polars as pl

    from fnl.runtime.atomic import write_atomically

    rows = [{**one["config"], **one} for one in found]
    frame = pl.DataFrame([{k: v for k, v in row.items() if k != "config"} for row in rows],
                         infer_schema_length=None, strict=False)  # fmt: skip
    with saying_why(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, frame.write_csv)


def summary(path: Path) -> Run:
    """Return what is known of a run; None where there is no such number (yet)."""
    from fnl.runtime.run_lock import is_locked
    from fnl.runtime.run_record import DAMAGED, INTERRUPTED, RUNNING, read_run

    one: Run = dict.fromkeys(("name", "status", "error", "rounds", "of", *NUMBERS))
    one |= {"engine": None, "started": None, "name": path.name, "rounds": 0, "config": {}}
    try:
        record = read_run(path)
        config = _config(record.get("config"))
        table = path / "rounds.parquet"
        last = _last_values(table) if table.exists() else {}
    except RunError as error:
        return one | {"status": DAMAGED, "error": str(error)}
    interrupted = record["status"] == RUNNING and not is_locked(path)
    of, seconds = config.get("run.rounds"), record.get("seconds")
    one |= {
        "status": INTERRUPTED if interrupted else str(record["status"]),
        "error": str(record["error"]) if record.get("error") else None,
        "of": of if isinstance(of, int) and not isinstance(of, bool) else None,
        "seconds": float(seconds) if isinstance(seconds, int | float) else None,
        "config": config,
    }
    return one | {key: str(record.get(key)) for key in ("engine", "started")} | last


def _config(recorded: object) -> dict[str, Any]:
    """Return a run's configuration, which one of another version may lack.

    Raises:
        RunError: if something in it is no key of a group, or no plain value.
    """
    if not isinstance(recorded, dict):
        return {}
    for key, value in recorded.items():
        if "." not in key or not isinstance(value, str | int | float):
            raise RunError(f"run.json has no configuration: {key!r:.40}")
    return recorded


def _last_values(path: Path) -> dict[str, Any]:
    """Return the last value of each column of interest, and the rejected replies of all rounds.

    Raises:
        RunError: if it is no table of rounds.
    """
    import polars as pl

    from fnl.runtime.table_reading import read_parquet

    numbers = (pl.Int32, pl.Int64, pl.UInt32, pl.Float32, pl.Float64, pl.Null)
    rounds = read_parquet(path)
    shown = [name for name in ("round", *NUMBERS) if name in rounds.columns]
    if not all(rounds[name].dtype in numbers for name in shown):
        raise RunError(f"{path} is not a table of rounds")
    names = [name for name in ("accuracy", "firing_rate", "epsilon_max") if name in shown]
    last = {name: rounds[name].drop_nulls().last() for name in names if rounds[name].count()}
    try:
        if "round" in shown:
            last["rounds"] = int(rounds["round"].drop_nulls().last() or 0)  # type: ignore[arg-type]
        if "rejected" in shown:
            last["rejected"] = int(rounds["rejected"].sum())
    except (ValueError, OverflowError):  # neither NaN nor infinity is a count
        raise RunError(f"{path} is not a table of rounds") from None
    return last


def _finite(values: Run) -> Run:
    """Return `values` with what JSON has no number for as text."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
