"""No label skew: clips dealt at random, in equal or in Dirichlet-distributed amounts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fnl.data.partitioning.assignment import Assignment, ClipTable, require_clips
from fnl.data.partitioning.dirichlet import log_dirichlet
from fnl.data.partitioning.spec import Draw, PartitionSpec


def partition_iid(table: ClipTable, spec: PartitionSpec) -> Assignment:
    """Split shuffled clips into equal pieces, or pieces of `skewed_sizes`.

    Raises:
        PartitionError: if there are too few clips.
    """
    require_clips(table, spec)
    if spec.quantity_alpha > 0:
        sizes = skewed_sizes(table.clips, spec)
    else:
        sizes = np.full(spec.clients, table.clips // spec.clients)
        sizes[: table.clips % spec.clients] += 1
    owners = np.empty(table.clips, dtype=np.int64)
    owners[table.shuffled(spec)] = np.repeat(np.arange(spec.clients), sizes)
    return Assignment(owners, "pieces of shuffled clips")


def skewed_sizes(clips: int, spec: PartitionSpec) -> NDArray[np.int64]:
    """Return client sizes with quantity skew, int64 [N], summing to `clips`.

    Every client gets `min_clips`; the rest is shared out by p ~ Dirichlet(quantity_alpha·1_N),
    rounded by largest remainder (Li et al. 2021, arXiv 2102.02079, section IV-D, has min_clips 0).
    """
    spare = clips - spec.clients * spec.min_clips
    generator = spec.stream(Draw.SIZES)
    share = spare * np.exp(log_dirichlet(spec.quantity_alpha, (1, spec.clients), generator)[0])
    extra = np.floor(share).astype(np.int64)
    leftover = spare - int(extra.sum())
    extra[np.argsort(extra - share, kind="stable")[:leftover]] += 1
    return spec.min_clips + extra
