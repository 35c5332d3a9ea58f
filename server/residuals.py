"""What simulated clients have left unsent of compressed updates, kept for them over the rounds.

A residual is its client's own: on a real device it never leaves. In a simulation it would be gone
with the process that holds it, so a client tells it with every answer, and is told it again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fnl.errors import RunError
from fnl.weights import Weights
from fnl.wire import exchange


class Residuals:
    """The residual of each client after its last answer that was taken."""

    def __init__(self) -> None:
        self._of: dict[int, Weights] = {}

    def of(self, partition: int) -> Weights | None:
        """Return what a client has left unsent; None for nothing."""
        return self._of.get(partition)

    def take(self, models_of: Mapping[int, Mapping[str, Weights]]) -> None:
        """Take what clients have told with their answers: partition -> key -> arrays."""
        for partition, models in models_of.items():
            if exchange.RESIDUAL in models:
                self._of[partition] = models[exchange.RESIDUAL]

    def fit(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Return whether all are finite and of weights of these shapes, by name."""
        return all(
            {name: value.shape for name, value in one.items()} == shapes
            and all(np.isfinite(value).all() for value in one.values())
            for one in self._of.values()
        )

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return all of them under the names partition/weight."""
        return {
            f"{partition}/{name}": value
            for partition, one in self._of.items()
            for name, value in one.items()
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.generic]], clients: int) -> Residuals:
        """Return what `state()` gave.

        Raises:
            RunError: if it is of no client of this federation.
        """
        restored = cls()
        for key, value in state.items():
            partition, _, name = key.partition("/")
            if not (partition.isdecimal() and partition.isascii() and int(partition) < clients):
                raise RunError(f"the saved state has the residual of no client: {key!r:.60}")
            restored._of.setdefault(int(partition), {})[name] = np.asarray(value, np.float32)
        return restored
