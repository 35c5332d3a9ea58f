"""Label skew: for each label, shares of the clients ~ Dirichlet(α).

The meaning is that of Yurochkin et al. 2019 (arXiv 1905.12022) and of flwr-datasets: for each label
l independently, p_l ~ Dirichlet(α·1_N), and client k gets a share p_lk of the label's clips.
flwr-datasets repeats the whole draw until every client has its minimum and gives up after eleven;
with many clients or a small α no draw would ever do, and the sampler of this file takes over.
(It also rounds every share down to its last client, which therefore holds each label at least
once; the sampler here does not.)

What distribution results from the sampler here:

1. p_l is exactly Dirichlet(α·1_N), drawn once. Logarithms keep it exact for shares that a float
   cannot hold.
2. Shares become whole clips by systematic rounding: every count is the floor or the ceiling of
   n_l·p_lk and its mean is n_l·p_lk.
3. A client below the minimum gets its missing clips one by one. The label of each is drawn from
   the client's own mix, proportional to n_l·p_lk: the repair changes how much it has, not of what.
   The clip is taken from the client with most clips of that label among those above the minimum
   (equals in random order), and only so many clips move as are missing. Clients that neither miss
   nor give clips keep their draw; a label without a giver left is passed over.

The number of moved clips is reported in the method, so a study can see how far a partitioning is
from a plain draw.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from fnl.data.partitioning import flower
from fnl.data.partitioning.assignment import Assignment, ClipTable, require_clips
from fnl.data.partitioning.spec import Draw, PartitionSpec


def partition_dirichlet(table: ClipTable, spec: PartitionSpec) -> Assignment:
    """Split by Dirichlet label skew: flwr-datasets, or `sample_counts` where it gives up.

    Raises:
        PartitionError: if there are too few clips.
    """
    require_clips(table, spec)
    if (owners := flower.by_dirichlet(table, spec)) is not None:
        return Assignment(owners, "flwr_datasets.DirichletPartitioner")
    counts, moved = sample_counts(
        table.label_counts(),
        spec.clients,
        spec.alpha,
        spec.min_clips,
        spec.stream(Draw.PROPORTIONS),
    )
    holders = [np.repeat(np.arange(spec.clients), of_clients) for of_clients in counts]
    return Assignment(
        table.dealt(holders, spec),
        f"fnl Dirichlet sampler, {moved} of {table.clips} clips moved to reach "
        f"{spec.min_clips} a client",
    )


def sample_counts(
    label_counts: NDArray[np.int64],
    clients: int,
    alpha: float,
    min_clips: int,
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], int]:
    """Draw how many clips of each label each client gets; the distribution is the module's.

    Args:
        label_counts: int64 [L], clips of each label; at least `clients * min_clips` in all.
        clients: N.
        alpha: concentration, positive.
        min_clips: fewest clips a client may have.
        generator: its stream.

    Returns:
        Counts int64 [L, N], and how many clips were moved for the minimum.
    """
    log_shares = log_dirichlet(alpha, (len(label_counts), clients), generator)
    offsets = generator.random(len(label_counts))
    counts = np.stack(
        [
            systematic_counts(np.exp(share), int(total), offset)
            for share, total, offset in zip(log_shares, label_counts, offsets, strict=True)
        ]
    )
    log_expected = np.log(label_counts)[:, None] + log_shares
    return counts, raise_to_minimum(counts, log_expected, min_clips, generator)


def log_dirichlet(
    alpha: float, shape: tuple[int, int], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return logarithms of rows ~ Dirichlet(α·1), float64 [rows, columns].

    Normalised gamma variables, with G(α) = G(α + 1)·U^(1/α) (Marsaglia & Tsang 2000, section 8)
    in logarithms, so that no share underflows to an undefined 0 at small α.
    """
    log_gamma = np.log(generator.standard_gamma(alpha + 1.0, shape))
    log_gamma += np.log1p(-generator.random(shape)) / alpha
    return log_gamma - logsumexp(log_gamma, axis=1, keepdims=True)


def systematic_counts(shares: NDArray[np.float64], total: int, offset: float) -> NDArray[np.int64]:
    """Round `total * shares` to whole numbers with that sum, int64 [N].

    Each is the floor or the ceiling of its share; over `offset` ~ U[0, 1) its mean is the share.
    """
    edges = np.floor(np.cumsum(shares) * total + offset).astype(np.int64)
    edges = np.minimum(edges, total)  # the sum of the shares may exceed 1 by a rounding error
    edges[-1] = total
    return np.diff(edges, prepend=0)


def raise_to_minimum(
    counts: NDArray[np.int64],
    log_expected: NDArray[np.float64],
    min_clips: int,
    generator: np.random.Generator,
) -> int:
    """Move clips in `counts` (int64 [L, N], in place) until each client has `min_clips`.

    Args:
        counts: clips of each label and client; at least N·min_clips in all.
        log_expected: float64 [L, N], log n_l·p_lk, by which a client's missing labels are drawn.
        min_clips: the minimum.
        generator: draws labels and the order among equal givers.

    Returns:
        How many clips were moved: the sum of what was missing, the fewest possible.
    """
    totals = counts.sum(axis=0)
    missing = np.maximum(min_clips - totals, 0)
    if not missing.any():
        return 0
    ties = generator.permutation(counts.shape[1])
    givers = np.flatnonzero(totals > min_clips)
    heaps = [[(-int(row[k]), int(ties[k]), int(k)) for k in givers if row[k] > 0] for row in counts]
    for heap in heaps:
        heapq.heapify(heap)
    open_labels = np.zeros(len(counts))  # 0 or -inf, added to the logarithms
    for receiver in np.repeat(np.arange(counts.shape[1]), missing):
        # Gumbel-max: the argmax is a draw proportional to the exponentials.
        keys = log_expected[:, receiver] + generator.gumbel(size=len(counts))
        while True:
            label = int(np.argmax(keys + open_labels))
            giver = _richest(heaps[label], totals, min_clips)
            if giver is not None:
                break
            open_labels[label] = -np.inf
        counts[label, giver] -= 1
        counts[label, receiver] += 1
        totals[giver] -= 1
        if counts[label, giver] > 0:
            heapq.heappush(heaps[label], (-int(counts[label, giver]), int(ties[giver]), giver))
    return int(missing.sum())


def _richest(
    heap: list[tuple[int, int, int]], totals: NDArray[np.int64], min_clips: int
) -> int | None:
    """Pop the client with most clips of a label that is above the minimum; None if none is."""
    while heap:
        _, _, client = heapq.heappop(heap)
        if totals[client] > min_clips:
            return client
    return None
