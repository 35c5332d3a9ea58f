"""A finished partitioning and its file."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fnl.data.partitioning.assignment import Assignment
from fnl.errors import PartitionError
from fnl.runtime.atomic import write_atomically


@dataclass(frozen=True, eq=False)
class Partitioning:
    """Which clips each client has; client k holds `order[offsets[k]:offsets[k + 1]]`.

    Two flat arrays, so that 10,000 clients cost no more memory than their clips.

    Attributes:
        order: int64 [n], positions in the corpus' `clips`, sorted within each client.
        offsets: int64 [N + 1], where each client begins in `order`.
        method: how it was made, e.g. "flwr_datasets.DirichletPartitioner".

    Raises:
        PartitionError: if the offsets do not cut `order` into N pieces.
    """

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    method: str = ""

    def __post_init__(self) -> None:
        order, offsets = self.order, self.offsets
        fits = order.ndim == 1 and offsets.ndim == 1 and len(offsets) >= 2
        if not fits or offsets[0] != 0 or offsets[-1] != len(order) or (np.diff(offsets) < 0).any():
            raise PartitionError(
                "the offsets of a partitioning must rise from 0 to its number of clips "
                f"({order.size}), one more than there are clients"
            )

    @classmethod
    def of(cls, rows: NDArray[np.int64], assignment: Assignment, clients: int) -> Partitioning:
        """Return the partitioning of `rows` (sorted, int64 [n]) by `assignment`."""
        sizes = np.bincount(assignment.owners, minlength=clients)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        order = rows[np.argsort(assignment.owners, kind="stable")]
        return cls(order, offsets, assignment.method)

    @property
    def clients(self) -> int:
        """Number of clients, N."""
        return len(self.offsets) - 1

    def sizes(self) -> NDArray[np.int64]:
        """Return the clips of each client, int64 [N]."""
        return np.diff(self.offsets)

    def owners(self) -> NDArray[np.int64]:
        """Return the client of each entry of `order`, int64 [n]."""
        return np.repeat(np.arange(self.clients), self.sizes())

    def rows(self, partition_id: int) -> NDArray[np.int64]:
        """Return the sorted positions of one client's clips; O(1), a view of `order`.

        Raises:
            PartitionError: if there is no such client.
        """
        if not 0 <= partition_id < self.clients:
            raise PartitionError(
                f"no partition {partition_id}: the ids are 0 to {self.clients - 1}"
            )
        return self.order[self.offsets[partition_id] : self.offsets[partition_id + 1]]

    def save(self, path: Path) -> None:
        """Write to `path` as a .npz without pickle; whole or not at all."""
        arrays = {"order": self.order, "offsets": self.offsets, "method": np.array(self.method)}

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)

        write_atomically(path, write)

    @classmethod
    def load(cls, path: Path) -> Partitioning:
        """Read what `save` wrote.

        Raises:
            PartitionError: if the file is missing or is no saved partitioning.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                order = arrays["order"].astype(np.int64, copy=False)
                offsets = arrays["offsets"].astype(np.int64, copy=False)
                return cls(order, offsets, str(arrays["method"]))
        except FileNotFoundError:
            raise PartitionError(f"no saved partitioning at {path}") from None
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise PartitionError(f"{path} is not a saved partitioning: {error}") from error
