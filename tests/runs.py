"""Runs that tests make, and what they wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fnl.config import parse_config
from fnl.runtime.events import Event
from fnl.runtime.in_process import run_in_process
from fnl.runtime.run_directory import RunDirectory, read_run

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("rounds", "clients", "layers", "faults")

Flat = Mapping[str, Any]


def run_here(flat: Flat, client_app: str = "clients.app:app", **options: Any) -> list[Event]:
    """Run the app with this configuration in process, by default alone; return its events."""
    said: list[Event] = []
    run_in_process(parse_config(flat), client_app=client_app, **({"notify": said.append} | options))
    return said


def dotted(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `group__a_key=value` under the keys of a configuration, `group.a-key`."""
    return {name.replace("__", ".").replace("_", "-"): new for name, new in changes.items()}


def changed(flat: Flat, name: str = "run", **changes: Any) -> dict[str, Any]:
    """Return a whole configuration: `flat` of another name, and changed as `dotted` says."""
    return parse_config({**flat, "run.name": name, **dotted(changes)}).flat()


def settings(flat: Flat) -> list[str]:
    """Return the options of `fnl run` that set this configuration."""
    values = {key: str(v).lower() if isinstance(v, bool) else v for key, v in flat.items()}
    return [f"--set={key}={value}" for key, value in values.items()]


def fnl(
    *arguments: str, cwd: Path = ROOT, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `fnl …` in a process of its own, with another PYTHONPATH if given, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "fnl.cli", *arguments],
        cwd=cwd,
        env=os.environ | ({} if path is None else {"PYTHONPATH": path}),
        capture_output=True,
        text=True,
        check=False,
    )


def directory_of(completed: subprocess.CompletedProcess[str]) -> Path:
    """Return the directory of the run that `fnl run` made."""
    assert completed.returncode == 0, completed.stderr
    return Path(completed.stdout.splitlines()[0].removeprefix("run directory "))


@contextmanager
def interrupted_in(server_round: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have Ctrl-C come before the tables get this round, and expect to hear of it."""
    add = RunDirectory.add

    def add_or_stop(self: RunDirectory, row: dict, *rows: Any) -> None:
        if row["round"] == server_round:
            raise KeyboardInterrupt
        add(self, row, *rows)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "add", add_or_stop)
        with pytest.raises(KeyboardInterrupt):
            yield


def flip_a_bit(path: Path) -> None:
    """Damage a file in its middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def path_of(flat: Flat) -> Path:
    """Return the directory of the run with this configuration."""
    return Path(flat["run.results-dir"]) / flat["run.name"]


def table(flat: Flat, name: str) -> pl.DataFrame:
    """Return a table of the run with this configuration."""
    return pl.read_parquet(path_of(flat) / f"{name}.parquet")


def model_of(flat: Flat) -> object:
    """Return the hash of the model of the run with this configuration."""
    return read_run(path_of(flat))["model_sha256"]


def assert_same_run(one: Path, other: Path) -> None:
    """Two finished runs have the same model and, but for times, the same tables."""
    assert read_run(one)["status"] == read_run(other)["status"] == "finished"
    assert read_run(one)["model_sha256"] == read_run(other)["model_sha256"]
    for name in TABLES:
        tables = [
            pl.read_parquet(path / f"{name}.parquet").drop("seconds", strict=False)
            for path in (one, other)
        ]
        assert tables[0].equals(tables[1], null_equal=True), name
