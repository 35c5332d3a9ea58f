"""What a rule may look at beside the reports: the round, the settings, and who took part so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fnl.config import CoordinationGroup
from fnl.errors import RunError
from fnl.weights import under
from fnl.wire.report import ClientReport
from server.known_noise import KnownNoise

Number = TypeVar("Number", np.int64, np.float64)

_COUNTS = {
    "times_selected": "times-selected",
    "last_selected": "last-selected",
    "times_answered": "times-answered",
}
"""Of a history's numbers for each client, the names in its state."""
_MEMORY = "memory/"

State = Mapping[str, NDArray[Any]]
"""What an algorithm keeps from round to round: arrays by name, which nobody changes in place."""


@dataclass(frozen=True)
class History:
    """Who took part in the rounds so far, and what the selection remembers of them.

    Attributes:
        times_selected: how often each partition was selected, int64 [N].
        last_selected: the round in which each was selected last, 0 for never, int64 [N].
        times_answered: in how many rounds each was a candidate that answered, int64 [N].
        memory: what the selection keeps for the next round, by name, float64 [N] each. It is made
            of reports, and covered by what covers those.
    """

    times_selected: NDArray[np.int64]
    last_selected: NDArray[np.int64]
    times_answered: NDArray[np.int64]
    memory: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def empty(cls, clients: int) -> History:
        """Return the history before the first round of a federation of `clients`."""
        return cls(**{name: _frozen(np.zeros(clients, np.int64)) for name in _COUNTS}, memory={})

    def after(
        self,
        server_round: int,
        partitions: Iterable[int],
        *,
        answered: Iterable[int] = (),
        memory: Mapping[str, NDArray[np.float64]] | None = None,
    ) -> History:
        """Return the history with `partitions` selected in `server_round`.

        Args:
            server_round: the round.
            partitions: the selected.
            answered: all candidates that answered.
            memory: what the selection keeps; None: what it kept before.
        """
        selected = list(partitions)
        times, last, asked = (getattr(self, name).copy() for name in _COUNTS)
        times[selected] += 1
        last[selected] = server_round
        asked[list(answered)] += 1
        kept = self.memory if memory is None else {k: _frozen(a) for k, a in memory.items()}
        return History(_frozen(times), _frozen(last), _frozen(asked), kept)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the history as named arrays."""
        counts = {wire: getattr(self, name).copy() for name, wire in _COUNTS.items()}
        return {**counts, **{f"{_MEMORY}{name}": a.copy() for name, a in self.memory.items()}}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.generic]], clients: int) -> History:
        """Return the history that `state()` gave.

        Raises:
            RunError: if an array is missing or is not of `clients` entries.
        """
        counts: dict[str, NDArray[np.int64]] = {}
        for name, wire in _COUNTS.items():
            array = state.get(wire)
            if array is None or array.shape != (clients,) or array.dtype != np.int64:
                raise RunError(f"the saved state has no {wire} of {clients} clients")
            counts[name] = _frozen(np.asarray(array, np.int64).copy())
        memory: dict[str, NDArray[np.float64]] = {}
        for name, array in under(_MEMORY, state).items():
            if array.shape != (clients,) or array.dtype != np.float64:
                raise RunError(f"the saved state's memory {name!r} is not of {clients} clients")
            memory[name] = _frozen(np.asarray(array, np.float64).copy())
            if not np.isfinite(memory[name]).all():
                raise RunError(f"the saved state's memory {name!r} is not finite")
        return cls(**counts, memory=memory)


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
        noise: how noisy a candidate's rates are, as far as that is public.
        state: what `coordination.algorithm` keeps; empty without.
    """

    server_round: int
    candidates: tuple[ClientReport, ...]
    count: int
    stream: np.random.Generator
    history: History
    settings: CoordinationGroup
    noise: KnownNoise = field(default_factory=KnownNoise)
    state: State = field(default_factory=dict)

    def rounds_since_selected(self, partition: int) -> int:
        """Return 1 for a client selected in the round before; the round's number if never."""
        return self.server_round - int(self.history.last_selected[partition])


def _frozen(values: NDArray[Number]) -> NDArray[Number]:
    values.flags.writeable = False
    return values
