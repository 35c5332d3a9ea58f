"""`fnl bench`: measures, and prints a table or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from benchmarks.round import BARE, RoundTimings, measure_round
from benchmarks.round_work import RoundWork
from benchmarks.simulation import SimulationTimings, measure_simulation, median_simulation
from benchmarks.step import StepTimings, measure_step
from fnl.errors import ConfigError

DEFAULT_WIDTHS = (40, 128, 128, 10)
TABLE_BATCHES = (8, 32, 128)
TABLE_STEPS = (25, 50, 100, 200)
TABLE_HIDDEN = (64, 128, 256, 512)

_out = Console(soft_wrap=True, highlight=False)


def bench_step(
    widths: str, *, steps: int, batch: int, threads: int, repeats: int, table: bool, as_json: bool
) -> None:
    """Time a private step of one shape, or of many.

    With `table`, one of B, T and hidden neurons varies at a time around the shape given.

    Raises:
        ConfigError: if `widths` are not numbers joined by "-".
    """
    shape = _parse_widths(widths)
    shapes = [(shape, steps, batch)]
    if table:
        shapes += [(shape, steps, b) for b in TABLE_BATCHES if b != batch]
        shapes += [(shape, t, batch) for t in TABLE_STEPS if t != steps]
        hidden = [(shape[0], *[h] * (len(shape) - 2), shape[-1]) for h in TABLE_HIDDEN]
        shapes += [(widened, steps, batch) for widened in hidden if widened != shape]
    rows = [
        measure_step(w, steps=t, batch=b, threads=threads, repeats=repeats) for w, t, b in shapes
    ]
    if as_json:
        _print_json([asdict(row) for row in rows] if table else asdict(rows[0]))
    else:
        _print_steps(rows)


def bench_round(*, repeats: int, rounds: int, flower: bool, as_json: bool) -> None:
    """Time a round without and with private local training against a bare loop and peers."""
    timings = [
        measure_round(RoundWork(private=private), repeats=repeats, rounds=rounds, flower=flower)
        for private in (False, True)
    ]
    if as_json:
        _print_json({"plain": asdict(timings[0]), "private": asdict(timings[1])})
        return
    for one in timings:
        _print_round(one)


def bench_run(
    assignments: Sequence[str],
    *,
    workers: Sequence[int],
    repeats: int,
    flower: bool,
    as_json: bool,
) -> None:
    """Measure `fnl run` with each number of workers, alternating, and on Flower when asked."""
    cases = [(count, False) for count in workers] + [(max(workers), True)] * flower
    runs: dict[tuple[int, bool], list[SimulationTimings]] = {case: [] for case in cases}
    for _ in range(repeats):
        for case in cases:
            count, on_flower = case
            runs[case].append(measure_simulation(assignments, workers=count, flower=on_flower))
    rows = [median_simulation(mine) for mine in runs.values()]
    if as_json:
        _print_json([asdict(row) for row in rows])
        return
    table = Table("engine", "workers", "updates/s", "client share", "first round s", "other s")
    for row in rows:
        table.add_row(
            row.engine,
            str(row.workers),
            f"{row.updates_a_second:.2f}",
            f"{row.client_share:.1%}",
            f"{row.first_round_seconds:.1f}",
            f"{row.other_seconds:.1f}",
        )
    _out.print(table)


def _parse_widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(width) for width in text.split("-"))
    except ValueError:
        widths = ()
    if len(widths) < 3 or min(widths) < 1:
        raise ConfigError(f"--widths {text!r} is not inputs-hidden-…-classes, e.g. 40-128-128-10")
    return widths


def _print_json(content: object) -> None:
    print(json.dumps(content))  # one object a line, for programs


def _print_steps(rows: Sequence[StepTimings]) -> None:
    threads = "thread" if rows[0].threads == 1 else "threads"
    _out.print(
        f"ms of a private step, {rows[0].threads} {threads}. loop, layers: snnTorch over time, by "
        "layer;\nfloor: the matrix products alone; gain: loop / ours; MiB: of loop and ours"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("widths", no_wrap=True)
    names = ("T", "B", "loop", "layers", "ours", "floor", "gain", "ours/floor", "MiB", "ours")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        times = (row.peer_ms, row.layerwise_ms, row.ours_ms, row.floor_ms)
        table.add_row(
            "-".join(map(str, row.shape["widths"])),  # type: ignore[arg-type]  # a list of ints
            str(row.shape["steps"]),
            str(row.shape["batch"]),
            *(f"{ms:.0f}" if ms >= 99.5 else f"{ms:.3g}" for ms in times),
            f"{row.peer_ms / row.ours_ms:.1f}",
            f"{row.ours_ms / row.floor_ms:.1f}",
            f"{row.peak_mib['peer']:.1f}",
            f"{row.peak_mib['ours']:.1f}",
        )
    _out.print(table)


def _print_round(timings: RoundTimings) -> None:
    kind = "private" if timings.private else "plain"
    table = Table("way", "s a round", "CPU s a round", "x bare", title=f"{kind} local training")
    for name, seconds in timings.seconds.items():
        cpu = timings.cpu_seconds.get(name)
        ratio = timings.over_bare.get(name, seconds / timings.seconds[BARE])
        table.add_row(name, f"{seconds:.3f}", f"{cpu:.3f}" if cpu else "", f"{ratio:.2f}")
    _out.print(table)
    for name, reason in timings.skipped.items():
        _out.print(f"{name}: {reason}", markup=False)  # fnl[bench] is no markup
    _out.print(f"load of the machine: {timings.load:.1f}\n")
