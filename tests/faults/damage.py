"""Damaged files of a run and of a grid, through the commands that read them.

`python -m tests.faults.damage --cuts 20 --flips 200` does it to every file and counts what came of
it: refused in one line, read as before, or read with another result without a word (silent). The
last, and a trace, must not be.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from experiments.figures.catalogue import draw_all
from experiments.figures.draw import read_grid
from experiments.figures.grid_tables import GridTables
from experiments.figures.run_tables import read_tables
from experiments.grid.directory import GridDirectory
from experiments.report import build, page
from fnl.api.grid import open_grid
from fnl.api.run import open_run
from fnl.cli import grid as cli_grid
from fnl.cli import runs as cli_runs
from fnl.cli import terminal
from fnl.errors import FnlError
from fnl.runtime.checkpoint import checkpoints, load_checkpoint
from fnl.runtime.journal import check
from fnl.runtime.releases import Releases
from fnl.runtime.run_place import check_resumable, config_of
from fnl.runtime.run_record import read_run
from fnl.runtime.saved_model import load_model
from fnl.weights import get_weights, weights_hash

Reader = Callable[[Path], str]
"""Reads a directory as a command does, and returns all that the command would show of it."""


def _tables(path: Path) -> str:
    run = read_tables(path)
    return repr([table.rows() for table in (run.rounds, run.clients, run.layers)])


def _resume(path: Path) -> str:
    """Return what `fnl resume` goes on from, and change nothing."""
    config = config_of(path)
    record = check_resumable(path, config)
    Releases(path)
    for file in checkpoints(path / "checkpoints"):
        try:
            kept = load_checkpoint(file, identity=str(record["identity"]))
            check(path / "checkpoints" / "rows.jsonl", kept.mark)
        except FnlError:
            continue
        return f"{kept.server_round} {weights_hash(dict(kept.weights))} {kept.server}"
    return "from the start"


def _printed(command: Callable[[], object]) -> str:
    text = io.StringIO()
    with terminal.out.capture() as capture, redirect_stdout(text):
        command()
    return capture.get() + text.getvalue()


def _grid_figures(path: Path) -> str:
    grid: GridTables = read_grid(path)
    cells = [grid.scan(name, ["round"]).rows() for name in ("rounds", "clients", "layers")]
    return repr([grid.cells.rows(), grid.results.collect().rows(), grid.summary.rows(), cells])


_drawn: dict[str, Any] = {}
_image = cache(page.image)


def _report(path: Path, report_of: Callable[[Path], page.Report], shown: Reader) -> str:
    """Return the page of `fnl report`; what shows the same tables is drawn once.

    Drawing takes seconds, and depends on nothing but the tables and the records.
    """
    records = [file.read_text(errors="replace") for file in sorted(path.rglob("run.json"))]
    key = repr((shown(path), records))

    def draw_once(*figures: Any) -> Any:
        if key not in _drawn:
            _drawn[key] = draw_all(*figures)
        return _drawn[key]

    with mock.patch.object(build, "draw_all", draw_once), mock.patch.object(page, "image", _image):
        return page.render(report_of(path))


def _python_run(path: Path) -> str:
    run = open_run(path)
    tables = [table.rows() for table in (run.rounds, run.clients, run.layers)]
    return repr([run.status, run.accuracy, run.epsilon, run.privacy, run.config, tables])


def _python_grid(path: Path) -> str:
    """Return what Python shows of a grid, whose tables are made anew of its cells."""
    grid = open_grid(path)
    runs = [_python_run(grid.run(cell).path) for cell in grid.cells["cell"]]
    return repr([grid.cells.rows(), grid.results.rows(), grid.summary.rows(), runs])


OF_RUN: dict[str, Reader] = {
    "runs": lambda path: _printed(lambda: cli_runs.runs(path.parent)),
    "figures": _tables,
    "report": lambda path: _report(path, build.report_of_run, _tables),
    "export": lambda path: weights_hash(get_weights(load_model(path)[1])),
    "python": _python_run,
}
OF_STOPPED: dict[str, Reader] = {
    "resume": _resume,
    "runs": lambda path: _printed(lambda: cli_runs.runs(path.parent)),
}
OF_GRID: dict[str, Reader] = {
    "grid status": lambda path: _printed(lambda: cli_grid.status(path)),
    "grid manifest": lambda path: repr(GridDirectory.open(path).manifest()),
    "figures": _grid_figures,
    "report": lambda path: _report(path, build.report_of_grid, _grid_figures),
    "python": _python_grid,
}


def damages(data: bytes, cuts: int, flips: int, draw: np.random.Generator) -> Iterator[bytes]:
    """Yield `data` cut and with a bit flipped, at places drawn."""
    for end in draw.integers(0, len(data), cuts) if data else []:
        yield data[:end]
    for place in draw.integers(0, len(data), flips) if data else []:
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(draw.integers(8))
        yield bytes(flipped)


def try_all(
    whole: Path, readers: dict[str, Reader], *, cuts: int, flips: int, seed: int = 0
) -> Counter[tuple[str, str]]:
    """Damage every file below `whole` in turn, in a copy; count (command, what came of it).

    A damaged file may make a directory say less ("damaged"), but not something else.
    """
    draw, counts = np.random.default_rng(seed), Counter[tuple[str, str]]()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / whole.name
        shutil.copytree(whole, copy)
        expected = {name: read(copy) for name, read in readers.items()}
        for file in sorted(path for path in copy.rglob("*") if path.is_file()):
            data = file.read_bytes()
            for damaged in damages(data, cuts, flips, draw):
                file.write_bytes(damaged)
                for name, read in readers.items():
                    outcome = _outcome(read, copy, expected[name])
                    if outcome.startswith(("silent", "trace")):
                        outcome += f" {file.relative_to(copy)}"
                    counts[name, outcome] += 1
            file.write_bytes(data)
    return counts


def _outcome(read: Reader, path: Path, expected: str) -> str:
    try:
        with redirect_stderr(io.StringIO()):
            shown = read(path)
    except FnlError as error:
        return "refused" if len(str(error).splitlines()) == 1 else "trace: several lines"
    except BaseException as error:  # panics are no `Exception`
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"trace: {type(error).__name__}"
    if shown == expected:
        return "as before"
    # a resumed run falls back on an older checkpoint; lists and reports say what they left out
    said = "damaged" in shown or "cannot be read" in shown or read is _resume
    return "said so" if said else "silent"


def main() -> None:
    """Damage a run, a stopped run and a grid that are there, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="a finished run")
    parser.add_argument("--stopped", type=Path, required=True, help="a failed or killed run")
    parser.add_argument("--grid", type=Path, required=True)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--flips", type=int, default=200)
    options = parser.parse_args()
    bad = 0
    for whole, readers in (
        (options.run, OF_RUN),
        (options.stopped, OF_STOPPED),
        (options.grid, OF_GRID),
    ):
        counts = try_all(whole, readers, cuts=options.cuts, flips=options.flips)
        bad += sum(n for (_, what), n in counts.items() if what.startswith(("silent", "trace")))
        said = {f"{name}: {what}": n for (name, what), n in sorted(counts.items())}
        print(json.dumps({whole.name: said}, indent=1), flush=True)
    assert read_run(options.run)["status"] == "finished"
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
