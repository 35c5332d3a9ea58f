"""What `fnl runs` shows: the run directories of a folder, side by side."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from fnl.errors import RunError
from fnl.runtime.run_directory import RUNNING, read_run
from fnl.runtime.run_lock import is_locked

INTERRUPTED = "interrupted"
"""Status of a run whose process is gone: `fnl resume` goes on with it."""


@dataclass(frozen=True)
class RunSummary:
    """A run in one line; None where there is no such number (yet)."""

    name: str
    status: str
    rounds: int
    of: int | None
    accuracy: float | None
    firing_rate: float | None
    epsilon_max: float | None
    rejected: int | None
    seconds: float | None
    engine: str | None
    started: str | None


def runs(directory: Path, *, as_json: bool) -> None:
    """Print the runs in `directory`, the oldest first.

    Raises:
        RunError: if there is none.
    """
    found = [_summary(path.parent) for path in directory.glob("*/run.json")]
    if not found:
        raise RunError(f"{directory} has no runs: give the folder that run.results-dir named")
    found.sort(key=lambda one: (one.started or "", one.name))
    out = Console(soft_wrap=True, highlight=False)
    if as_json:
        out.print_json(json.dumps([_finite(asdict(one)) for one in found]))
        return
    table = Table(box=None)
    for column in ("run", "status", "rounds", "accuracy", "rate", "ε", "rejected", "seconds"):
        table.add_column(column, justify="left" if column in ("run", "status") else "right")
    for one in found:
        table.add_row(
            one.name,
            one.status,
            f"{one.rounds}/{one.of}" if one.of else str(one.rounds),
            _number(one.accuracy, ".3f"),
            _number(one.firing_rate, ".3f"),
            _number(one.epsilon_max, ".2f"),
            _number(one.rejected, "d"),
            _number(one.seconds, ".1f"),
        )
    out.print(table)


def _summary(path: Path) -> RunSummary:
    try:
        record = read_run(path)
    except RunError:
        return RunSummary(path.name, "damaged", 0, *[None] * 8)
    status = str(record["status"])
    if status == RUNNING and not is_locked(path):
        status = INTERRUPTED
    config = record.get("config")
    of = config.get("run.rounds") if isinstance(config, dict) else None
    last, rejected = _last_values(path / "rounds.parquet")
    seconds = record.get("seconds")
    return RunSummary(
        name=path.name,
        status=status,
        rounds=int(last.get("round") or 0),
        of=of if isinstance(of, int) else None,
        accuracy=last.get("accuracy"),
        firing_rate=last.get("firing_rate"),
        epsilon_max=last.get("epsilon_max"),
        rejected=rejected,
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
        engine=str(record.get("engine")),
        started=str(record.get("started")),
    )


def _last_values(path: Path) -> tuple[dict[str, float | None], int | None]:
    """Return the last value of each column of interest, and the rejected replies of all rounds."""
    try:
        rounds = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError):
        return {}, None
    last: dict[str, float | None] = {}
    for name in ("round", "accuracy", "firing_rate", "epsilon_max"):
        values = rounds[name].drop_nulls() if name in rounds.columns else pl.Series([])
        last[name] = values[-1] if len(values) else None
    return last, int(rounds["rejected"].sum()) if "rejected" in rounds.columns else None


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _finite(values: dict[str, object]) -> dict[str, object]:
    """Return `values` with what JSON has no number for as text."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
