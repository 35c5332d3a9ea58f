"""Lists of runs and of cells: what one directory holds hides no other, and steers no terminal."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

import fnl
from fnl.cli.runs import runs
from fnl.cli.terminal import out
from fnl.config import parse_config
from fnl.console import plain_console
from fnl.errors import FnlError, RunError
from fnl.runtime.digests import write_digests
from fnl.runtime.run_directory import RunDirectory
from fnl.runtime.run_record import read_run, write_record

ANSI = "\x1b]0;owned\x07\x1b[31mred\x9b2J\r\n\u202efake line"
STEERING = ("\x1b", "\x9b", "\x07", "\r", "\u202e")


def _run(results: Path, name: str, accuracy: float = 0.5) -> Path:
    config = parse_config({"run.results-dir": str(results), "run.name": name})
    directory = RunDirectory.create(config, engine="test", metadata={"privacy": {}})
    directory.add({"round": 1, "accuracy": accuracy, "rejected": 2}, [], [])
    directory.fail("stopped")
    return directory.path


def _record(**entries: Any) -> Callable[[Path], None]:
    return lambda path: write_record(path, read_run(path) | entries)


def _config(**keys: Any) -> Callable[[Path], None]:
    def forge(path: Path) -> None:
        config = read_run(path)["config"]
        assert isinstance(config, dict)
        write_record(path, read_run(path) | {"config": config | keys})

    return forge


def _column(name: str, value: Any) -> Callable[[Path], None]:
    def forge(path: Path) -> None:
        write_record(path, read_run(path) | {"files": None})
        (path / "digests.json").unlink(missing_ok=True)
        table = pl.read_parquet(path / "rounds.parquet")
        column = value if isinstance(value, pl.Expr) else pl.lit(value)
        table.with_columns(column.alias(name)).write_parquet(path / "rounds.parquet")

    return forge


def _instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def forge(path: Path) -> None:
        (path / name).unlink(missing_ok=True)
        make(path / name)

    return forge


DAMAGED: dict[str, Callable[[Path], None]] = {
    "a key without a group": _config(abc=1),
    "a table for a value": _config(**{"privacy.epsilon": {"a": [1]}}),
    "a list for a value": _config(**{"privacy.epsilon": [1, 2]}),
    "no value": _config(**{"privacy.epsilon": None}),
    "round NaN": _column("round", float("nan")),
    "round infinite": _column("round", float("inf")),
    "rejected NaN": _column("rejected", float("nan")),
    "rejected infinite": _column("rejected", float("inf")),
    "rounds in decimals": _column("round", pl.lit(1).cast(pl.Decimal(10, 2))),
    "accuracy in decimals": _column("accuracy", pl.col("accuracy").cast(pl.Decimal(10, 2))),
    "accuracy in words": _column("accuracy", "x"),
    "rejected beyond 64 bits": _column("rejected", pl.lit(2**100, dtype=pl.Int128)),
    "a pipe for a record": _instead("run.json", os.mkfifo),
    "a pipe for a table": _instead("rounds.parquet", os.mkfifo),
    "a folder for a record": _instead("run.json", Path.mkdir),
    "a folder for a table": _instead("rounds.parquet", Path.mkdir),
    "a record without end": _instead("run.json", lambda p: p.write_text("[" * 200_000)),
    "a device for a record": _instead("run.json", lambda p: p.symlink_to("/dev/zero")),
}
ODD: dict[str, Callable[[Path], None]] = {
    "no status": _record(status=None),
    "a list for a status": _record(status=["finished"]),
    "seconds NaN": _record(seconds=float("nan")),
    "seconds infinite": _record(seconds=float("inf")),
    "seconds of a thousand years": _record(seconds=2**62),
    "a flag for rounds": _config(**{"run.rounds": True}),
    "epsilon NaN": _config(**{"privacy.epsilon": float("nan")}),
    "no configuration": _record(config=None),
    "a pipe for a lock": _instead("run.lock", os.mkfifo),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    results = tmp_path_factory.mktemp("two")
    _run(results, "good", 0.25)
    _run(results, "bad")
    return results


@pytest.fixture
def results(two, tmp_path) -> Path:
    return Path(shutil.copytree(two, tmp_path / "results"))


@pytest.mark.parametrize("forge", (DAMAGED | ODD).values(), ids=DAMAGED | ODD)
def test_one_bad_run_hides_no_other(results, forge):
    forge(results / "bad")
    every: list[dict[str, Any]] = [
        {},
        {"as_json": True},
        {"sort": "-accuracy"},
        {"where": ["accuracy>0"]},
        {"csv": results / "all.csv"},
    ]
    for options in every:
        with out.capture() as captured:
            runs(results, **options)
        assert "good" in captured.get(), options
        assert "0.25" in captured.get(), options
    if forge in DAMAGED.values():
        assert pl.read_csv(results / "all.csv")["status"].to_list().count("damaged") == 1


@pytest.mark.parametrize(
    "forge",
    [
        _record(status=ANSI),
        _config(**{"model.network": ANSI}),
        _config(**{f"model.{ANSI}": 1}),
    ],
    ids=["status", "value", "key"],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_files_say_steers_no_terminal(results, forge, as_json):
    forge(results / "bad")
    with out.capture() as captured:
        runs(results, as_json=as_json)
    shown = captured.get()
    assert "red" in shown
    assert not [sign for sign in STEERING if sign in shown]
    assert not [line for line in shown.splitlines() if line.startswith("fake line")]


def test_errors_with_a_files_words_are_one_harmless_line(results, command):
    path = results / "bad"
    write_record(path, read_run(path) | {"config": {ANSI: 1}})
    code, _, err = command("resume", str(path))
    assert code == 1
    assert not [sign for sign in STEERING if sign in err]
    assert len(err.splitlines()) == 1


def test_consoles_clean_all_that_they_print(capsys):
    console = plain_console()
    table = Table(ANSI, title=ANSI, caption=ANSI)
    table.add_row(ANSI)
    table.add_row(Text(ANSI))
    for printed in (ANSI, Text(ANSI), table, [ANSI], f"a\tb {ANSI}"):
        console.print(printed)
    console.print_json(json.dumps([ANSI]))
    with Progress(TextColumn("{task.description}", markup=False), console=console) as bar:
        bar.add_task(ANSI)
    shown = capsys.readouterr().out
    assert shown.count("red") >= 9
    assert not [sign for sign in STEERING if sign in shown]


def _cell(**changes: Any) -> dict[str, Any]:
    return {"id": "x", "seed": 0, "values": {}, "is_twin": False, "twin": None} | changes


def _grid(path: Path, *cells: dict[str, Any], **changes: Any) -> Path:
    (path / "cells").mkdir(parents=True)
    manifest = {"name": "g", "keys": [], "baseline": {}, "cells": cells, "source": ""}
    (path / "grid.json").write_text(json.dumps(manifest | {"overrides": {}} | changes))
    write_digests(path, ["grid.json"])
    return path


@pytest.mark.parametrize(
    ("cell", "keys"),
    [
        (_cell(id="../../outside"), []),
        (_cell(id="/etc"), []),
        (_cell(id=".."), []),
        (_cell(id=""), []),
        (_cell(id="a\nb"), []),
        (_cell(id=ANSI), []),
        (_cell(id="a\x00b"), []),
        (_cell(twin="../x"), []),
        (_cell(), ["privacy.epsilon"]),
        (_cell(values={"cell": 1}), ["cell"]),
    ],
    ids=str,
)
def test_a_forged_grid_is_one_line(tmp_path, command, cell, keys):
    """Reproduction: a cell `../../outside` was read, and a key without values was a trace."""
    grid = _grid(tmp_path / "g", cell, keys=keys)
    outside = _run(tmp_path, "outside")
    code, shown, err = command("grid", "status", str(grid))
    assert code == 1
    assert "is not a grid's record" in err
    assert len(err.splitlines()) == 1
    assert "outside" not in shown
    for read in (lambda g: g.cells, lambda g: g.run(cell["id"]), lambda g: g.results):
        with pytest.raises(FnlError):
            read(fnl.open_grid(grid))
    assert outside.is_dir()


def test_python_opens_cells_of_the_grid_alone(tmp_path):
    grid = fnl.open_grid(_grid(tmp_path / "g", _cell()))
    _run(tmp_path, "outside")
    _run(tmp_path / "g" / "cells", "x")
    assert grid.run("x").status == "failed"
    for other in ("../../outside", "nowhere", ""):
        with pytest.raises(RunError, match="has no cell"):
            grid.run(other)


@pytest.mark.parametrize(
    "entries",
    [
        {"seconds": "y", "status": None, "worker": {"seconds": float("nan")}},
        {"error": {"a": 1}},
        {"error": ANSI, "status": ANSI},
        {"worker": {"seconds": 2**63 - 1}},
        {"worker": 5, "seconds": [1]},
    ],
    ids=str,
)
def test_an_odd_record_of_a_cell_is_shown(tmp_path, command, entries):
    grid = _grid(tmp_path / "g", _cell(), _cell(id="good"), name=ANSI)
    _run(grid / "cells", "good", 0.25)
    path = _run(grid / "cells", "x")
    write_record(path, read_run(path) | entries)
    code, shown, err = command("grid", "status", str(grid))
    assert code == 0, err
    assert "0.25" in shown
    assert not [sign for sign in STEERING if sign in shown]
    assert not [line for line in shown.splitlines() if line.startswith("fake line")]


def test_values_that_make_no_column_are_one_line(tmp_path, command):
    cells = [
        _cell(id=f"c{number}", values={"privacy.epsilon": value})
        for number, value in enumerate(itertools.chain([1.5, "x", True], [2**62]))
    ]
    code, _, err = command(
        "grid", "status", str(_grid(tmp_path / "g", *cells, keys=["privacy.epsilon"]))
    )
    assert code in (0, 1)
    assert len(err.splitlines()) == code
    assert "Error" not in err


@pytest.mark.parametrize("table", ["rounds", "clients", "layers"])
def test_python_reads_no_flipped_bit(results, table):
    """Reproduction: `Run.rounds` read past the digests, and a trace came of what was cut."""
    path = results / "good"
    data = (path / f"{table}.parquet").read_bytes()
    for place in (0, len(data) // 2, len(data) - 9):
        flipped = bytearray(data)
        flipped[place] ^= 1
        (path / f"{table}.parquet").write_bytes(bytes(flipped))
        with pytest.raises(RunError, match=r"is damaged: its SHA-256"):
            getattr(fnl.open_run(path), table)
    (path / f"{table}.parquet").write_bytes(data[:20])
    write_record(path, read_run(path) | {"files": None})
    (path / "digests.json").unlink(missing_ok=True)
    with pytest.raises(RunError, match="cannot read the table"):
        getattr(fnl.open_run(path), table)
