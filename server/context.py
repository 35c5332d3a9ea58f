"""What a rule may look at beside the reports: the round, the settings, and who took part so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnl.config import CoordinationGroup
from fnl.errors import RunError
from fnl.wire.report import ClientReport

State = Mapping[str, NDArray[Any]]
"""What an algorithm keeps from round to round: arrays by name, which nobody changes in place."""


@dataclass(frozen=True)
class History:
    """Who was selected in the rounds so far. Public: it says nothing that the schedule does not.

    Attributes:
        times_selected: how often each partition was selected, int64 [N].
        last_selected: the round in which each was selected last, 0 for never, int64 [N].
    """

    times_selected: NDArray[np.int64]
    last_selected: NDArray[np.int64]

    @classmethod
    def empty(cls, clients: int) -> History:
        """Return the history before the first round of a federation of `clients`."""
        return cls(_frozen(np.zeros(clients, np.int64)), _frozen(np.zeros(clients, np.int64)))

    def after(self, server_round: int, partitions: Iterable[int]) -> History:
        """Return the history with `partitions` selected in `server_round`."""
        selected = list(partitions)
        times, last = self.times_selected.copy(), self.last_selected.copy()
        times[selected] += 1
        last[selected] = server_round
        return History(_frozen(times), _frozen(last))

    def state(self) -> dict[str, NDArray[np.int64]]:
        """Return the history as named arrays."""
        return {
            "times-selected": self.times_selected.copy(),
            "last-selected": self.last_selected.copy(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.generic]], clients: int) -> History:
        """Return the history that `state()` gave.

        Raises:
            RunError: if an array is missing or is not of `clients` entries.
        """
        arrays = []
        for name in ("times-selected", "last-selected"):
            array = state.get(name)
            if array is None or array.shape != (clients,) or array.dtype != np.int64:
                raise RunError(f"the saved state has no {name} of {clients} clients")
            arrays.append(_frozen(np.asarray(array, np.int64).copy()))
        return cls(*arrays)


@dataclass(frozen=True)
class RoundContext:
    """One round, as a rule sees it.

    Attributes:
        server_round: its number, from 1.
        candidates: the reports of all candidates, in partition order.
        count: m, how many are to be selected.
        stream: the round's random stream for selection; the same for a run and its shadow.
        history: who was selected before.
        settings: the group `coordination` of the configuration.
        state: what `coordination.algorithm` keeps; empty without.
    """

    server_round: int
    candidates: tuple[ClientReport, ...]
    count: int
    stream: np.random.Generator
    history: History
    settings: CoordinationGroup
    state: State = field(default_factory=dict)

    def rounds_since_selected(self, partition: int) -> int:
        """Return 1 for a client selected in the round before; the round's number if never."""
        return self.server_round - int(self.history.last_selected[partition])


def _frozen(values: NDArray[np.int64]) -> NDArray[np.int64]:
    values.flags.writeable = False
    return values
