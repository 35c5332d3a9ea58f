"""A compressed update: which of its numbers are sent, how they are written, and how they are read.

On the wire it is up to three arrays. `indices` are the places of the numbers that are sent, in
ascending order, where not all are. `values` are these numbers in float32, or int8 levels; of
levels every block of `BLOCK` has a float32 in `scales`, by which they are multiplied. How many of
each there are follows from the run's configuration and the size of the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import DTypeLike, NDArray

from fnl.config import Config
from fnl.errors import RunError
from fnl.weights import Weights, from_vector
from fnl.wire.npy import read_array

LARGEST_UPDATE = 1e6
"""L2 norm of an update above which no training is behind it, where the run sets no bound.

In single precision squares overflow from 1.8e19 on: one finite update of that length, averaged in,
leaves a model on which every client's gradients are NaN.
"""

BLOCK = 256
"""Levels that share a scale."""
LEVELS = 127
"""Levels on either side of zero."""


@dataclass(frozen=True)
class Packing:
    """How a run's clients write their updates; the server knows it without them.

    Attributes:
        numbers: P, numbers of a whole update.
        share: of them that are sent.
        bits: of each, 32 or 8.
    """

    numbers: int
    share: float
    bits: int

    @classmethod
    def of(cls, config: Config, numbers: int) -> Packing | None:
        """Return the packing of a run; None where updates are sent as they are."""
        if not config.compresses:
            return None
        return cls(numbers, config.training.sent_share, config.training.sent_bits)

    @property
    def sent(self) -> int:
        """k, how many numbers are sent."""
        return max(1, math.ceil(self.share * self.numbers))

    @property
    def layout(self) -> dict[str, tuple[np.dtype[np.generic], int]]:
        """The arrays of an update: name -> kind and length."""
        place = np.uint16 if self.numbers <= 1 << 16 else np.uint32
        arrays: dict[str, tuple[DTypeLike, int]] = {}
        if self.sent < self.numbers:
            arrays["indices"] = place, self.sent
        arrays["values"] = np.int8 if self.bits == 8 else np.float32, self.sent
        if self.bits == 8:
            arrays["scales"] = np.float32, -(-self.sent // BLOCK)
        return {name: (np.dtype(kind), length) for name, (kind, length) in arrays.items()}

    def opened(self, arrays: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """Return the update [P] that arrays of this `layout` stand for; zero where none is sent."""
        values = np.asarray(arrays["values"], np.float32)
        if "scales" in arrays:
            scales = np.asarray(arrays["scales"], np.float32)
            with np.errstate(invalid="ignore", over="ignore"):  # whoever reads strangers' looks
                values = values * np.repeat(scales, BLOCK)[: len(values)]
        if "indices" not in arrays:
            return values
        update = np.zeros(self.numbers, np.float32)
        update[arrays["indices"].astype(np.int64)] = values
        return update


def applied(before: Weights, update: NDArray[np.float32]) -> Weights:
    """Return the weights `before`, moved by an update [P]."""
    with np.errstate(over="ignore", invalid="ignore"):  # a stranger's may be anything
        return {
            name: before[name] + np.asarray(part, np.float32)
            for name, part in from_vector(update.astype(np.float64), before).items()
        }


def from_compressed(record: ArrayRecord, packing: Packing) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a Flower record, every one of the kind and length of `packing`.

    Its numbers may still be infinite or nan.

    Raises:
        RunError: naming the first array that is missing, unknown, damaged or another than that;
            indices that are out of range, twice there or out of order; a scale below zero.
    """
    layout = packing.layout
    if set(record) != set(layout):
        sent = ", ".join(sorted(record)) or "nothing"
        raise RunError(f"a compressed update has {', '.join(layout)}, this one {sent:.60}")
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, (kind, length) in layout.items():
        value = read_array(name, record[name])
        if value.dtype != kind or value.shape != (length,):
            raise RunError(f"{name} are {value.dtype} {list(value.shape)}, not {kind} [{length}]")
        arrays[name] = value
    if "indices" in arrays:
        places = arrays["indices"].astype(np.int64)
        if places[-1] >= packing.numbers or not (np.diff(places) > 0).all():
            raise RunError(f"indices are not in ascending order below {packing.numbers}, each once")
    if "scales" in arrays and (np.asarray(arrays["scales"], np.float32) < 0).any():
        raise RunError("a scale is below zero")
    if packing.bits == 8 and (np.asarray(arrays["values"], np.int8) < -LEVELS).any():
        raise RunError(f"a level is below -{LEVELS}")
    return arrays
