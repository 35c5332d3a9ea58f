"""The partitioners of flwr-datasets, asked for owners of clips.

Read against flwr-datasets 0.6.1. Its partitioners keep their own NumPy generator, seeded by an
integer, and touch no global one; only `FederatedDataset` and its plots send telemetry, which is
switched off all the same. The data sets made here live in memory and write no cache.

`load_partition` costs 1-2 ms a client (20 s for 10,000), so the whole mapping is read at once:
from the private attribute that `load_partition` selects by.
"""

from __future__ import annotations

import importlib
import os
import random
import warnings
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnl.data.partitioning.assignment import ClipTable
from fnl.data.partitioning.spec import Draw, PartitionSpec

MAX_CLIENTS = 1_000
"""Clients up to which flwr-datasets is asked for label skew.

Beyond, its Python loops take 10 s and more (12 s to give up on 10,000 clients at α = 0.3; as much
for shards with many labels a client), and its Dirichlet partitioner gives up nearly always.
"""

TELEMETRY = "FLWR_TELEMETRY_ENABLED"


def _module(name: str) -> ModuleType:
    """Import `name` of flwr-datasets or datasets: seconds, telemetry off, `random` untouched."""
    before, state = os.environ.get(TELEMETRY), random.getstate()
    os.environ[TELEMETRY] = "0"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    finally:
        random.setstate(state)
        if before is None:
            del os.environ[TELEMETRY]
        else:
            os.environ[TELEMETRY] = before


def _owners(
    kind: str, table: ClipTable, spec: PartitionSpec, **arguments: object
) -> NDArray[np.int64] | None:
    """Return the owners by the partitioner `kind` of the shuffled clips' labels, int64 [n].

    None for too many clients, where it gives up, and where it leaves out a clip or uses it twice.
    """
    if spec.clients > MAX_CLIENTS:
        return None
    shuffled = table.shuffled(spec)
    partitioner: Any = getattr(_module("flwr_datasets.partitioner"), kind)(
        num_partitions=spec.clients,
        partition_by="code",
        shuffle=False,
        seed=int(spec.stream(Draw.FLOWER_SEED).integers(0, 2**63 - 1)),
        **arguments,
    )
    partitioner.dataset = _module("datasets").Dataset.from_dict({"code": table.labels[shuffled]})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of attempts; the outcome is checked here
            _ = partitioner.num_partitions  # works out the mapping
    except ValueError:
        return None
    mapping = partitioner._partition_id_to_indices
    held = [np.asarray(mapping[client], dtype=np.int64) for client in range(len(mapping))]
    used = np.concatenate(held)
    if not np.array_equal(np.sort(used), np.arange(table.clips)):
        return None
    owners = np.empty(table.clips, dtype=np.int64)
    owners[shuffled[used]] = np.repeat(np.arange(len(held)), [len(clips) for clips in held])
    return owners


def by_dirichlet(table: ClipTable, spec: PartitionSpec) -> NDArray[np.int64] | None:
    """Return owners by `DirichletPartitioner` without its size balancing, int64 [n].

    None if eleven draws all leave a client with fewer than `min_clips`, or it is not asked.
    """
    return _owners(
        "DirichletPartitioner",
        table,
        spec,
        alpha=float(spec.alpha),
        min_partition_size=spec.min_clips,
        self_balancing=False,
    )


def by_labels_per_client(table: ClipTable, spec: PartitionSpec) -> NDArray[np.int64] | None:
    """Return owners by `PathologicalPartitioner`, exactly k labels a client, int64 [n].

    The mode is the one of the paper it implements (Li et al. 2021, arXiv 2102.02079). None if a
    label lacks clips for its clients, no client holds some label, or it is not asked.
    """
    return _owners(
        "PathologicalPartitioner",
        table,
        spec,
        num_classes_per_partition=spec.labels_per_client,
        class_assignment_mode="first-deterministic",
    )
