"""Ctrl-C at random instants of `fnl run` in a pseudo-terminal: does every run end, and how?

    python -m benchmarks interrupts --count 200

Each run has two worker processes. The whole foreground group gets SIGINT, as from a terminal. What
does not end in `--patience` seconds hangs: it is counted, and killed.
"""

from __future__ import annotations

import os
import pty
import random
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from fnl.errors import RunError
from fnl.runtime.run_record import read_run

KEYS = {
    "run.rounds": 1000,
    "data.speakers": 10,
    "data.clips-per-word": 2,
    "data.clients": 4,
    "coordination.candidates": 4,
    "coordination.selected": 2,
    "model.hidden": 16,
}


def main(
    count: Annotated[int, typer.Option(help="Runs that are interrupted.")] = 200,
    latest: Annotated[float, typer.Option(help="Seconds before the signal, at most.")] = 15.0,
    patience: Annotated[float, typer.Option(help="Seconds after which a run hangs.")] = 90.0,
    seed: int = 0,
) -> None:
    """Interrupt runs at random instants and print how often each outcome was."""
    outcomes = interrupt(count, latest, patience, seed)
    for outcome, times in sorted(outcomes.items()):
        print(f"{times:4d} {outcome}")
    if outcomes["hung"]:
        raise RunError(f"{outcomes['hung']} of {count} runs hung")


def interrupt(count: int, latest: float, patience: float, seed: int) -> Counter[str]:
    """Return how often each outcome was: `status S, exit E`, or `hung`."""
    draw, outcomes = random.Random(seed), Counter[str]()  # noqa: S311 no secret
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            results = Path(folder) / str(number)
            outcomes[_once(results, draw.uniform(0.0, latest), patience)] += 1
    return outcomes


def _once(results: Path, after: float, patience: float) -> str:
    command = [sys.executable, "-P", "-m", "fnl.cli.main", "run", "--workers", "2"]
    for key, value in (KEYS | {"run.results-dir": str(results), "run.name": "one"}).items():
        command += ["--set", f"{key}={value}"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)  # noqa: S606 our own command
    interrupted_at = time.monotonic() + after
    deadline, sent = interrupted_at + patience, False
    while True:
        if select.select([terminal], [], [], 0.05)[0]:
            with suppress(OSError):  # EIO: nobody has the terminal any more
                os.read(terminal, 65536)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        now = time.monotonic()
        if not sent and now >= interrupted_at:
            os.write(terminal, b"\x03")  # the terminal makes SIGINT of it, for the whole group
            sent = True
        if now >= deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(terminal)
            return "hung"
    os.close(terminal)
    try:
        standing = str(read_run(results / "one")["status"])
    except Exception:
        standing = "not begun"
    return f"{standing}, exit {os.waitstatus_to_exitcode(status)}"
