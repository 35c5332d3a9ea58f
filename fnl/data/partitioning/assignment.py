"""What a partitioner is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fnl.data.partitioning.spec import Draw, PartitionSpec
from fnl.errors import PartitionError


@dataclass(frozen=True, eq=False)
class ClipTable:
    """The clips to split, as numbers.

    Attributes:
        labels: int64 [n], dense codes 0..L-1 of the labels that occur, in the order of the index.
        speakers: int64 [n], dense codes 0..S-1 of the speakers that occur, in order of their names.
    """

    labels: NDArray[np.int64]
    speakers: NDArray[np.int64]

    @classmethod
    def of(cls, clips: pl.DataFrame) -> ClipTable:
        """Return the table of `clips`, a frame with the columns `label` and `speaker`."""
        _, labels = np.unique(clips["label"].to_numpy(), return_inverse=True)
        ranks = clips["speaker"].rank("dense").to_numpy()
        return cls(labels.astype(np.int64), ranks.astype(np.int64) - 1)

    @property
    def clips(self) -> int:
        """Number of clips, n."""
        return len(self.labels)

    def label_counts(self) -> NDArray[np.int64]:
        """Return the clips of each label, int64 [L]."""
        return np.bincount(self.labels)

    def speaker_counts(self) -> NDArray[np.int64]:
        """Return the clips of each speaker, int64 [S]."""
        return np.bincount(self.speakers)

    def shuffled(self, spec: PartitionSpec) -> NDArray[np.int64]:
        """Return the positions of the clips in the random order of `spec`, int64 [n]."""
        return spec.stream(Draw.SHUFFLE).permutation(self.clips)

    def dealt(self, holders: Sequence[NDArray[np.int64]], spec: PartitionSpec) -> NDArray[np.int64]:
        """Return owners, int64 [n]: the shuffled clips of each label go round its `holders`."""
        shuffled = self.shuffled(spec)
        owners = np.empty(self.clips, dtype=np.int64)
        for label, of_label in enumerate(holders):
            rows = shuffled[self.labels[shuffled] == label]
            owners[rows] = np.resize(of_label, len(rows))
        return owners


@dataclass(frozen=True, eq=False)
class Assignment:
    """Which client holds each clip.

    Attributes:
        owners: int64 [n], the client of each clip of the table, in 0..N-1.
        method: how it was made, for the record, e.g. "flwr_datasets.DirichletPartitioner".
    """

    owners: NDArray[np.int64]
    method: str

    def smallest(self, clients: int) -> int:
        """Return the number of clips of the client with the fewest."""
        return int(np.bincount(self.owners, minlength=clients).min())


def require_clips(table: ClipTable, spec: PartitionSpec) -> None:
    """Check that there are enough clips for `spec.min_clips` each.

    Raises:
        PartitionError: if there are not; it names the largest possible number of clients.
    """
    if spec.clients * spec.min_clips > table.clips:
        raise PartitionError(
            f"{spec.clients} clients with at least {spec.min_clips} clips each need "
            f"{spec.clients * spec.min_clips} clips, there are {table.clips}: "
            f"at most {table.clips // spec.min_clips} clients are possible"
        )


def largest_working(works: Callable[[int], bool], lowest: int, failing: int) -> int | None:
    """Return a number in [lowest, failing) that works, by bisection the largest; None if none does.

    Where `works` is not monotone the number returned still works, but a larger one may too.
    """
    if lowest >= failing or not works(lowest):
        return None
    while failing - lowest > 1:
        middle = (lowest + failing) // 2
        if works(middle):
            lowest = middle
        else:
            failing = middle
    return lowest
