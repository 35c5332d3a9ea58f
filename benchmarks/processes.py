"""`fnl …` in a process of its own, timed; and a run of the app in this one."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from flwr.app import Message

from fnl.config import Config, Scalar
from fnl.errors import RunError
from fnl.runtime.in_process import run_in_process

FNL = (sys.executable, "-m", "fnl.cli")
Flower = Annotated[
    bool,
    typer.Option("--flower", help="Also on Flower's own engine on Ray, from the project's folder."),
]


def settings(flat: Mapping[str, Scalar]) -> list[str]:
    """Return the options that set these keys."""
    return [f"--set={key}={value}" for key, value in flat.items()]


def fnl(*arguments: str) -> float:
    """Run a command to its end and return its seconds.

    Raises:
        RunError: if it fails, with the last line it wrote.
    """
    started = time.perf_counter()
    done = subprocess.run([*FNL, *arguments], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RunError(f"fnl {arguments[0]} failed: {last_line(done)}")
    return seconds


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line that a process wrote."""
    return (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]


def round_seconds(run: Path) -> list[float]:
    """Return the wall time of each of a run's rounds, the first being its set-up."""
    return pl.read_parquet(run / "rounds.parquet", glob=False).sort("round")["seconds"].to_list()


def run_here(config: Config, on_reply: Callable[[Message], None] = lambda _: None) -> None:
    """Run the app in this process, with one worker, without a word."""
    with quiet_flower():
        run_in_process(
            config,
            on_reply=on_reply,
            notify=lambda _: None,
        )


@contextmanager
def quiet_flower() -> Iterator[None]:
    """Keep Flower's log off the terminal."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
