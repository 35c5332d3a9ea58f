"""Which engine carries a run, and how to tell its user something."""

from __future__ import annotations

from collections.abc import Callable
from logging import INFO
from typing import Protocol, runtime_checkable

from flwr.common.logger import log
from flwr.serverapp import Grid

ENGINES = {"InMemoryGrid": "flower-simulation", "InProcessGrid": "in-process"}
SIMULATIONS = frozenset(ENGINES.values())
"""Engines whose clients are no real devices: what they keep is lost with the process."""


@runtime_checkable
class Notifying(Protocol):
    """A grid whose engine shows the user messages itself."""

    notify: Callable[[str], None]


def engine_name(grid: Grid) -> str:
    """Return the engine's name for `run.json`."""
    names = (ENGINES.get(kind.__name__) for kind in type(grid).__mro__)
    return next((name for name in names if name), "flower-deployment")


def notify(grid: Grid, message: str) -> None:
    """Show `message` to the user of the engine behind `grid`."""
    if isinstance(grid, Notifying):
        grid.notify(message)
    else:
        log(INFO, "fnl: %s", message)
