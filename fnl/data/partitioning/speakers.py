"""Whole speakers per client: the natural heterogeneity of a speech corpus."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from fnl.data.partitioning.assignment import (
    Assignment,
    ClipTable,
    largest_working,
    require_clips,
)
from fnl.data.partitioning.spec import Draw, PartitionSpec
from fnl.errors import PartitionError


def partition_by_speaker(table: ClipTable, spec: PartitionSpec) -> Assignment:
    """Give each speaker to one client.

    As many clients as speakers: client k is the k-th speaker in order of names.
    Fewer: speakers are grouped by `group_speakers`; flwr-datasets groups by a number of speakers a
    client, which neither reaches every number of clients nor evens out clips.

    Raises:
        PartitionError: if there are fewer speakers than clients, or a client would fall below the
            minimum.
    """
    sizes = table.speaker_counts()
    if spec.clients > len(sizes):
        raise PartitionError(
            f"{spec.clients} clients by speaker need as many speakers, there are {len(sizes)}: "
            f"at most {len(sizes)} clients are possible"
        )
    require_clips(table, spec)
    if spec.clients == len(sizes):
        assignment = Assignment(table.speakers, "a speaker each")
    else:
        clients = group_speakers(sizes, spec.clients, spec.stream(Draw.SPEAKERS))
        assignment = Assignment(clients[table.speakers], "fnl speaker groups, balanced by clips")
    fewest = assignment.smallest(spec.clients)
    if fewest < spec.min_clips:
        raise _too_few(sizes, spec, fewest)
    return assignment


def group_speakers(
    sizes: NDArray[np.int64], clients: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Group speakers into clients with about equally many clips, int64 [S].

    Largest first to the client with the fewest clips, then speakers (Graham 1969); equal speakers
    and client numbers in random order. Every client gets at least one speaker.
    """
    order = generator.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    heap = [(0, 0, int(client)) for client in generator.permutation(clients)]
    heapq.heapify(heap)
    names = generator.permutation(clients)
    groups = np.empty(len(sizes), dtype=np.int64)
    for speaker in order:
        clips, speakers, client = heap[0]
        groups[speaker] = names[client]
        heapq.heapreplace(heap, (clips + int(sizes[speaker]), speakers + 1, client))
    return groups


def _too_few(sizes: NDArray[np.int64], spec: PartitionSpec, fewest: int) -> PartitionError:
    """Return the error for a client below the minimum, with a number that would do."""

    def works(clients: int) -> bool:
        groups = group_speakers(sizes, clients, spec.stream(Draw.SPEAKERS))
        filled = np.bincount(groups, weights=sizes, minlength=clients)
        return bool(filled.min() >= spec.min_clips)

    possible = largest_working(works, 1, spec.clients)
    return PartitionError(
        f"{spec.clients} clients over {len(sizes)} speakers leave a client with {fewest} clips, "
        f"fewer than min_clips={spec.min_clips}: {possible} clients are possible, "
        f"or min_clips={fewest}"
    )
