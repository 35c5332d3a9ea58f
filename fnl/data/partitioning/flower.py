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
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_CLIENTS = 1_000
"""Clients up to which flwr-datasets is asked for label skew.

Beyond, its Python loops take 10 s and more (12 s to give up on 10,000 clients at α = 0.3; as much
for shards with many labels a client), and its Dirichlet partitioner gives up nearly always.
"""

TELEMETRY = "FLWR_TELEMETRY_ENABLED"


class GaveUpError(Exception):
    """flwr-datasets found no partitioning for what was asked."""


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


def _prepared(kind: str, column: NDArray[np.int64], **arguments: object) -> Any:
    """Return the partitioner `kind` over an in-memory data set, its mapping worked out."""
    partitioner = getattr(_module("flwr_datasets.partitioner"), kind)(**arguments)
    partitioner.dataset = _module("datasets").Dataset.from_dict({"code": column})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of attempts; the outcome is checked here
            _ = partitioner.num_partitions  # works out the mapping
    except ValueError as error:
        raise GaveUpError(str(error)) from error
    return partitioner


def _owners(mapping: Mapping[int, Sequence[int]], clips: int) -> NDArray[np.int64]:
    """Turn client -> clips into clip -> client, int64 [n].

    Raises:
        GaveUpError: if a clip is left out or used twice.
    """
    sizes = [len(mapping[client]) for client in range(len(mapping))]
    used = np.concatenate([np.asarray(mapping[k], dtype=np.int64) for k in range(len(mapping))])
    if not np.array_equal(np.sort(used), np.arange(clips)):
        raise GaveUpError("some clips are left out")
    owners = np.empty(clips, dtype=np.int64)
    owners[used] = np.repeat(np.arange(len(mapping)), sizes)
    return owners


def by_dirichlet(
    labels: NDArray[np.int64], clients: int, alpha: float, min_clips: int, seed: int
) -> NDArray[np.int64]:
    """Return owners by `DirichletPartitioner` without its size balancing, int64 [n].

    Raises:
        GaveUpError: if eleven draws all leave a client with fewer than `min_clips`.
    """
    partitioner = _prepared(
        "DirichletPartitioner",
        labels,
        num_partitions=clients,
        partition_by="code",
        alpha=float(alpha),
        min_partition_size=min_clips,
        self_balancing=False,
        shuffle=False,
        seed=seed,
    )
    return _owners(partitioner._partition_id_to_indices, len(labels))


def by_labels_per_client(
    labels: NDArray[np.int64], clients: int, labels_per_client: int, seed: int
) -> NDArray[np.int64]:
    """Return owners by `PathologicalPartitioner`, exactly k labels a client, int64 [n].

    The mode is the one of the paper it implements (Li et al. 2021, arXiv 2102.02079).

    Raises:
        GaveUpError: if a label lacks clips for its clients, or no client holds some label.
    """
    partitioner = _prepared(
        "PathologicalPartitioner",
        labels,
        num_partitions=clients,
        partition_by="code",
        num_classes_per_partition=labels_per_client,
        class_assignment_mode="first-deterministic",
        shuffle=False,
        seed=seed,
    )
    return _owners(partitioner._partition_id_to_indices, len(labels))
