"""The one function that runs a partitioner: one that is built in, or a user's own.

One's own is a function from the clips and the spec to the owner of each clip, named in the
configuration as `data.partitioner = "module:function"`:

    def one_label_each(table: ClipTable, spec: PartitionSpec) -> NDArray[np.int64]:
        '''Client k gets label k modulo the number of clients.'''
        return table.labels % spec.clients

Random decisions come from `spec.stream(Draw.CUSTOM)` only. What it returns is checked: an owner in
range for every clip, and `min_clips` for every client.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fnl.config.data import PARTITIONERS
from fnl.data.partitioning.assignment import Assignment, ClipTable
from fnl.data.partitioning.result import Partitioning
from fnl.data.partitioning.spec import PartitionSpec
from fnl.errors import PartitionError
from fnl.import_path import builder_of

Partitioner = Callable[[ClipTable, PartitionSpec], Assignment | NDArray[np.int64]]


def partition(clips: pl.DataFrame, rows: NDArray[np.int64], spec: PartitionSpec) -> Partitioning:
    """Split some clips of a corpus over clients, each clip to exactly one.

    A pure function of its arguments; the order of `rows` does not matter.

    Args:
        clips: the corpus' index, with the columns `label` and `speaker` (see `CLIP_SCHEMA`).
        rows: int64 [n], positions in `clips` of the clips to split, usually the training clips.
        spec: how.

    Returns:
        The partitioning, in positions of `clips`.

    Raises:
        PartitionError: if the spec cannot be met with these clips.
    """
    if spec.partitioner not in PARTITIONERS and ":" not in spec.partitioner:
        raise PartitionError(
            f"unknown partitioner '{spec.partitioner}': one of {', '.join(PARTITIONERS)}, or "
            "module:function of your own"
        )
    if spec.quantity_alpha > 0 and spec.partitioner in PARTITIONERS.keys() - {"iid"}:
        raise PartitionError(
            f"quantity_alpha={spec.quantity_alpha} applies to the partitioner 'iid' only; "
            f"'{spec.partitioner}' decides client sizes itself: set quantity_alpha to 0"
        )
    rows = _checked_rows(rows, clips.height)
    table = ClipTable.of(clips[rows])
    partitioner: Partitioner = builder_of("data.partitioner", spec.partitioner, PARTITIONERS)
    made = partitioner(table, spec)
    assignment = made if isinstance(made, Assignment) else Assignment(made, spec.partitioner)
    _check(assignment, table, spec)
    return Partitioning.of(rows, assignment, spec.clients)


def _checked_rows(rows: NDArray[np.int64], height: int) -> NDArray[np.int64]:
    """Return `rows` sorted, int64 [n]; raise PartitionError if empty, repeated or out of range."""
    rows = np.sort(np.asarray(rows)).astype(np.int64)
    if rows.size == 0:
        raise PartitionError("there are no clips to split: the training split is empty")
    if rows[0] < 0 or rows[-1] >= height:
        raise PartitionError(
            f"rows {rows[0]} to {rows[-1]} do not lie in an index of {height} clips"
        )
    if (np.diff(rows) == 0).any():
        raise PartitionError(f"row {rows[:-1][np.diff(rows) == 0][0]} is given twice")
    return rows


def _check(assignment: Assignment, table: ClipTable, spec: PartitionSpec) -> None:
    """Raise PartitionError if a partitioner, perhaps a user's, broke its contract."""
    owners = assignment.owners
    if owners.shape != (table.clips,) or not np.issubdtype(owners.dtype, np.integer):
        raise PartitionError(
            f"partitioner '{spec.partitioner}' must return one integer owner for each of "
            f"{table.clips} clips, not {owners.dtype} {list(owners.shape)}"
        )
    if owners.min() < 0 or owners.max() >= spec.clients:
        raise PartitionError(
            f"partitioner '{spec.partitioner}' must return owners in 0..{spec.clients - 1}, "
            f"not {owners.min()}..{owners.max()}"
        )
    fewest = assignment.smallest(spec.clients)
    if fewest < spec.min_clips:
        raise PartitionError(
            f"partitioner '{spec.partitioner}' leaves a client with {fewest} clips, "
            f"fewer than min_clips={spec.min_clips}"
        )
