"""Exactly k labels per client, the pathological split of federated learning."""

from __future__ import annotations

import heapq
import math

import numpy as np
from numpy.typing import NDArray

from fnl.data.partitioning import flower
from fnl.data.partitioning.assignment import (
    Assignment,
    ClipTable,
    largest_working,
    require_clips,
)
from fnl.data.partitioning.spec import Draw, PartitionSpec
from fnl.errors import PartitionError


def partition_shards(table: ClipTable, spec: PartitionSpec) -> Assignment:
    """Give each client clips of exactly `labels_per_client` labels.

    By `PathologicalPartitioner` of flwr-datasets where it uses every clip and reaches the minimum
    (its `ShardPartitioner` drops clips and mixes labels within a shard); else, as with fewer
    clients than labels, by `deal_shards`.

    Raises:
        PartitionError: if no such split exists.
    """
    require_clips(table, spec)
    counts = table.label_counts()
    _require_labels(len(counts), spec)
    if (owners := flower.by_labels_per_client(table, spec)) is not None:
        assignment = Assignment(owners, "flwr_datasets.PathologicalPartitioner")
        if assignment.smallest(spec.clients) >= spec.min_clips:
            return assignment
    holders = _deal(counts, spec.clients, spec)
    if holders is None:
        raise _impossible(counts, spec)
    return Assignment(table.dealt(holders, spec), "fnl shards, dealt in proportion to the labels")


def deal_shards(
    label_counts: NDArray[np.int64],
    clients: int,
    labels_per_client: int,
    generator: np.random.Generator,
) -> list[NDArray[np.int64]] | None:
    """Decide which clients hold each label: k distinct labels a client, each label somewhere.

    The N·k shards are shared among the labels by D'Hondt's rule, which makes the smallest shard as
    large as possible; label by label they are then dealt round the clients, in random order of
    labels and clients. A label has at most N shards, so none comes twice to a client.

    Returns:
        For each label its holders, int64 [shards of the label]; None if there are too few clips or
        labels for every client to hold k.
    """
    limits = np.minimum(label_counts, clients)
    spare = clients * labels_per_client - len(label_counts)
    if spare < 0 or limits.sum() < clients * labels_per_client:
        return None
    shards = np.ones(len(label_counts), dtype=np.int64)
    heap = [(-count / 2, label) for label, count in enumerate(label_counts.tolist())]
    heap = [entry for entry in heap if limits[entry[1]] > 1]
    heapq.heapify(heap)
    for _ in range(spare):
        label = heap[0][1]
        shards[label] += 1
        if shards[label] < limits[label]:
            heapq.heapreplace(heap, (-int(label_counts[label]) / (int(shards[label]) + 1), label))
        else:
            heapq.heappop(heap)
    names = generator.permutation(clients)
    holders: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)] * len(label_counts)
    dealt = 0
    for label in generator.permutation(len(label_counts)):
        holders[label] = names[(dealt + np.arange(int(shards[label]))) % clients]
        dealt += int(shards[label])
    return holders


def _deal(
    counts: NDArray[np.int64], clients: int, spec: PartitionSpec
) -> list[NDArray[np.int64]] | None:
    """Deal shards with the spec's own stream; None also if a client falls below the minimum."""
    holders = deal_shards(counts, clients, spec.labels_per_client, spec.stream(Draw.SHARDS))
    if holders is None or _sizes(counts, holders, clients).min() < spec.min_clips:
        return None
    return holders


def _sizes(
    counts: NDArray[np.int64], holders: list[NDArray[np.int64]], clients: int
) -> NDArray[np.int64]:
    """Return the clips each client gets, int64 [N], when a label's clips go round its holders."""
    sizes = np.zeros(clients, dtype=np.int64)
    for count, of_label in zip(counts, holders, strict=True):
        sizes[of_label] += count // len(of_label)
        sizes[of_label[: count % len(of_label)]] += 1
    return sizes


def _require_labels(labels: int, spec: PartitionSpec) -> None:
    """Raise PartitionError if `labels` labels cannot be k to a client, all of them used."""
    if spec.labels_per_client > labels:
        raise PartitionError(
            f"labels_per_client={spec.labels_per_client} exceeds the {labels} labels there are: "
            f"at most {labels} are possible"
        )
    if spec.clients * spec.labels_per_client < labels:
        raise PartitionError(
            f"{spec.clients} clients with {spec.labels_per_client} labels each cannot hold all "
            f"{labels} labels: at least {math.ceil(labels / spec.labels_per_client)} clients "
            f"or {math.ceil(labels / spec.clients)} labels per client are needed"
        )


def _impossible(counts: NDArray[np.int64], spec: PartitionSpec) -> PartitionError:
    """Return the error for too few clips of some label, with a number that would do."""
    fewest = max(1, math.ceil(len(counts) / spec.labels_per_client))
    possible = largest_working(
        lambda clients: _deal(counts, clients, spec) is not None, fewest, spec.clients
    )
    remedy = (
        "lower labels_per_client or min_clips"
        if possible is None
        else f"{possible} clients are possible"
    )
    return PartitionError(
        f"{spec.clients} clients cannot each have {spec.labels_per_client} labels and at least "
        f"{spec.min_clips} clips (the rarest label has {counts.min()} clips): {remedy}"
    )
