"""Which engine carries a run, and how to tell its user something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from logging import INFO
from typing import Protocol, runtime_checkable

from flwr.common.logger import log
from flwr.serverapp import Grid

from fnl.runtime.deployment import DEPLOYMENT
from fnl.runtime.events import Event, to_line

FLOWER_SIMULATION = "flower-simulation"
ENGINES = {"InMemoryGrid": FLOWER_SIMULATION, "InProcessGrid": "in-process"}


@runtime_checkable
class Notifying(Protocol):
    """A grid whose engine takes events itself."""

    notify: Callable[[Event], None]


@runtime_checkable
class Hosting(Protocol):
    """A grid that computes clients itself.

    Attributes:
        clients_apart: whether it does so in other processes.
        nodes: partition -> node id, which need not be asked for then.
    """

    clients_apart: bool
    nodes: Mapping[int, int]


def engine_name(grid: Grid) -> str:
    """Return the engine's name for `run.json`."""
    names = (ENGINES.get(kind.__name__) for kind in type(grid).__mro__)
    return next((name for name in names if name), DEPLOYMENT)


def notify(grid: Grid, event: Event) -> None:
    """Tell `event` to whoever started the engine behind `grid`."""
    if isinstance(grid, Notifying):
        grid.notify(event)
    else:
        log(INFO, "%s", to_line(event))


def clients_apart(grid: Grid) -> bool:
    """Return whether clients are simulated in other processes than the server's.

    The server may then compute while they do. Real devices do not count: what a server has written
    down must not fall behind what they have spent.
    """
    if isinstance(grid, Hosting):
        return grid.clients_apart
    return engine_name(grid) == FLOWER_SIMULATION
