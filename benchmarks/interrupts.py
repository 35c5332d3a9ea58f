"""Ctrl-C at random instants of `fnl run` in a pseudo-terminal: does every run end, and how?

    python -m benchmarks interrupts --count 200

Each run has two worker processes. The whole foreground group gets SIGINT, as from a terminal. A
first run is left alone, and tells how long its start and its rounds take here. Half of the instants
are drawn over the former, counted from the launch, the others over the latter, counted from the
first round on. What does not end in `--patience` seconds hangs: it is counted, and killed.
"""

from __future__ import annotations

import os
import pty
import random
import re
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fnl.errors import FnlError, RunError
from fnl.runtime.run_record import read_run

KEYS = {
    "run.rounds": 20,
    "data.speakers": 10,
    "data.clips-per-word": 2,
    "data.clients": 4,
    "coordination.candidates": 4,
    "coordination.selected": 2,
    "model.hidden": 16,
}
INTERRUPTED = ("exit 130", "exit -2")
"""Of a command that Ctrl-C ended; of one that did not listen yet, or no more: the system did."""
HUNG = "hung"

_ROUND = re.compile(rb"round \d+/")
"""Of round 0 on, the model before any training, a run is in its rounds."""
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Instant:
    """When Ctrl-C is pressed: so many seconds after the launch, or after the first round began."""

    seconds: float
    in_rounds: bool


@dataclass(frozen=True)
class Ending:
    """How one run ended.

    Attributes:
        where: what it was at when Ctrl-C was pressed.
        how: what `run.json` says, and the exit status; or `HUNG`.
        said: the last words on its terminal.
        began: seconds from the launch until its first round began; None if none did.
        ended: seconds from the launch to its end.
    """

    where: str
    how: str
    said: str
    began: float | None
    ended: float

    @property
    def in_order(self) -> bool:
        """Whether it ended as a command does that is interrupted, or was finished before."""
        status, _, exit_status = self.how.partition(", ")
        at_rest = status in ("not begun", "interrupted", "finished")
        # before the first line of ours Python itself ends with 1, as its own start failed
        of_python = self.how == "not begun, exit 1" and self.said.endswith("KeyboardInterrupt")
        ended = at_rest and exit_status in INTERRUPTED
        return ended or of_python or self.how == "finished, exit 0"


def main(
    count: Annotated[int, typer.Option(help="Runs that are interrupted.")] = 200,
    patience: Annotated[float, typer.Option(help="Seconds after which a run hangs.")] = 90.0,
    seed: int = 0,
) -> None:
    """Interrupt runs at random instants and print where those fell, and how the runs ended."""
    counted = Counter[tuple[str, str]]()
    try:
        for one in interrupt(count, patience, seed):
            counted[one.where, one.how] += 1
            if not one.in_order:
                print(f"{one.where}: {one.how}: {one.said}", flush=True)
    finally:  # also of what there is, when this is interrupted itself
        for (where, how), times in sorted(counted.items()):
            print(f"{times:4d} {where}: {how}")
    if hung := sum(times for (_, how), times in counted.items() if how == HUNG):
        raise RunError(f"{hung} of {count} runs hung")


def interrupt(count: int, patience: float, seed: int) -> Iterator[Ending]:
    """Yield how each of `count` runs ended that were interrupted at random instants."""
    draw = random.Random(seed)  # noqa: S311 no secret
    with tempfile.TemporaryDirectory() as folder:
        whole = _once(Path(folder) / "whole", None, patience)
        if whole.began is None or not whole.how.endswith("exit 0"):
            raise RunError(f"a run that was left alone: {whole.how}: {whole.said}")
        for number in range(count):
            in_rounds = bool(number % 2)
            longest = whole.ended - whole.began if in_rounds else whole.began
            instant = Instant(draw.uniform(0.0, longest), in_rounds)
            yield _once(Path(folder) / str(number), instant, patience)


def _once(results: Path, instant: Instant | None, patience: float) -> Ending:
    """Run once, with Ctrl-C at an instant; None: without."""
    command = [sys.executable, "-P", "-m", "fnl.cli.main", "run", "--workers", "2"]
    for key, value in (KEYS | {"run.results-dir": str(results), "run.name": "one"}).items():
        command += ["--set", f"{key}={value}"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)  # noqa: S606 our own command
    launched, told = time.monotonic(), 0.0
    shown, where, status, began = b"", "", 0, None
    while True:
        if select.select([terminal], [], [], 0.02)[0]:
            with suppress(OSError):  # EIO: nobody has the terminal any more
                shown += os.read(terminal, 65536)
        ended, status = os.waitpid(pid, os.WNOHANG)
        now = time.monotonic() - launched
        if began is None and _ROUND.search(shown):
            began = now
        if ended:
            break
        since = began if instant is not None and instant.in_rounds else 0.0
        due = instant is not None and since is not None and now >= since + instant.seconds
        if due and not where:
            where, told = _place(results / "one", shown), now
            os.write(terminal, b"\x03")  # the terminal makes SIGINT of it, for the whole group
        if now >= told + (patience if where else 10 * patience):
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
    os.close(terminal)
    exit_status = f"exit {os.waitstatus_to_exitcode(status)}"
    how = f"{_status(results / 'one')}, {exit_status}" if ended else HUNG
    words = b" ".join(_CONTROL.sub(b"", shown).split())[-300:].decode(errors="replace")
    return Ending(where or "after its end", how, words, began, now)


def _place(run: Path, shown: bytes) -> str:
    """Return what a run is at, by its record and by what its terminal has shown."""
    status = _status(run)
    if status == "finished":
        return "as it closed"
    if _ROUND.search(shown):
        return "in its rounds"
    return "before it began" if status == "not begun" else "before its first round"


def _status(run: Path) -> str:
    try:
        return str(read_run(run)["status"])
    except FnlError:
        return "not begun"
