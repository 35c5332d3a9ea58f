"""Smaller updates: the largest numbers alone, and each in a byte, with what is left kept for later.

Whatever a client computes here it computes of weights that its training has given, behind the
noise: of the weights before and after, of what it left unsent of earlier such updates, and of a
stream of random numbers that has nothing to do with clips. So it costs no privacy where that noise
hides the clips, and hides none where it does not.

Error feedback (Seide et al. 2014; Karimireddy et al. 2019, arXiv 1901.09847): what an update loses
by compression is added to the client's next one before that is compressed. Stochastic rounding
(Alistarh et al. 2017, arXiv 1610.02132) makes a number's level right on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.metrics.aggregation import flatten
from fnl.randomness import Purpose, stream
from fnl.weights import Weights, from_vector
from fnl.wire.compressed import BLOCK, LARGEST_UPDATE, LEVELS, Packing, applied


@dataclass(frozen=True)
class Compressed:
    """What a client sends of its weights, and what it keeps.

    Attributes:
        arrays: of the update on the wire (`fnl.wire.compressed`).
        weights: that the server makes of it.
        residual: what was not sent, named as weights; it is added to the next update.
    """

    arrays: dict[str, NDArray[np.generic]]
    weights: Weights
    residual: Weights


def compressed(
    config: Config, before: Weights, after: Weights, residual: Weights | None, path: tuple[int, int]
) -> Compressed | None:
    """Return what a client sends in place of `after`; None where that is sent as it is.

    An update that is not finite is sent as one that is not. It leaves the residual as it was, as
    does one that is too large for the server to take: its mass would spoil later ones.

    Args:
        config: of the run.
        before: the global weights that training started from.
        after: what it gave.
        residual: what the client's earlier updates left unsent; None for nothing.
        path: the round and the client's partition.
    """
    numbers = sum(value.size for value in before.values())
    packing = Packing.of(config, numbers)
    if packing is None:
        return None
    kept = np.zeros(numbers) if residual is None else flatten(residual)
    update = (flatten(after) - flatten(before) + kept).astype(np.float32)
    if np.isfinite(update).all():
        arrays = packed(update, packing, stream(config.run.seed, Purpose.COMPRESSION, *path))
        opened = packing.opened(arrays)
        if _is_taken(config, before, applied(before, opened)):
            kept = update - opened
    else:
        arrays = _not_finite(packing)
    return Compressed(arrays, applied(before, packing.opened(arrays)), _named(kept, before))


def _is_taken(config: Config, before: Weights, after: Weights) -> bool:
    norm = np.linalg.norm(flatten(after) - flatten(before))
    return bool(norm <= (config.coordination.max_update_norm or LARGEST_UPDATE))


def packed(
    update: NDArray[np.float32], packing: Packing, generator: np.random.Generator
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays that stand for an update [P] of finite numbers.

    Sent are the numbers of the largest size; of equal ones those of lower index.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    values, layout = update, packing.layout
    if "indices" in layout:
        largest = np.argsort(-np.abs(update), kind="stable")[: packing.sent]
        places = np.sort(largest)
        arrays["indices"], values = places.astype(layout["indices"][0]), update[places]
    if "scales" not in layout:
        return arrays | {"values": values}
    padded = np.zeros(layout["scales"][1] * BLOCK)
    padded[: len(values)] = values
    blocks = padded.reshape(-1, BLOCK)
    scales = _scales(np.abs(blocks).max(axis=1))
    in_levels = blocks / np.where(scales > 0, scales, 1)[:, None]
    drawn = np.floor(in_levels + generator.random(blocks.shape))
    levels = np.clip(drawn, -LEVELS, LEVELS).astype(np.int8).reshape(-1)[: len(values)]
    return arrays | {"values": levels, "scales": scales}


def _scales(largest: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the least float32 whose `LEVELS`-fold is no less than the largest of each block."""
    scales = (largest / LEVELS).astype(np.float32)
    short = scales.astype(np.float64) * LEVELS < largest
    return np.where(short, np.nextafter(scales, np.float32(np.inf)), scales)


def _not_finite(packing: Packing) -> dict[str, NDArray[np.generic]]:
    layout = packing.layout
    arrays = {name: np.zeros(length, kind) for name, (kind, length) in layout.items()}
    if "indices" in arrays:
        arrays["indices"] = np.arange(packing.sent).astype(layout["indices"][0])
    reals = "scales" if "scales" in arrays else "values"
    arrays[reals] = np.full(layout[reals][1], np.nan, np.float32)
    return arrays


def _named(vector: NDArray[np.floating], like: Weights) -> Weights:
    named = from_vector(np.asarray(vector, np.float64), like)
    return {name: np.asarray(named[name], np.float32) for name in like}
