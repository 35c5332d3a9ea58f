"""What the rounds so far leave for the measurements of the next one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fnl.metrics.ranking import Scores


class History:
    """Each client's last score, and how often it was selected.

    It is no more than what the table of clients holds: a resumed run gives `replay` that table.

    Attributes:
        selections: how often each client of the federation was selected, int64 [N].
    """

    def __init__(self, clients: int) -> None:
        self.selections: NDArray[np.int64] = np.zeros(clients, dtype=np.int64)
        self._scores: dict[int, float] = {}

    def previous(self, partitions: Sequence[int]) -> Scores:
        """Return each one's score in the last round it was a candidate in; nan if in none."""
        return np.array([self._scores.get(partition, np.nan) for partition in partitions])

    def add(self, partition: int, score: float, *, selected: bool) -> None:
        """Take in one candidate of a round."""
        self._scores[partition] = score
        self.selections[partition] += selected

    def replay(self, client_rows: Iterable[Mapping[str, object]]) -> None:
        """Take in rows of the table of clients, in the order of their rounds."""
        for row in client_rows:
            partition, score = row["partition"], row["score"]
            if isinstance(partition, int) and isinstance(score, float):
                self.add(partition, score, selected=bool(row["selected"]))
