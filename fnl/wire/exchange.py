"""The records of a message between server and clients: their keys, and weights as arrays.

Clients and server never import each other; they share this room. What a client says beside its
weights is in `report.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, MessageType
from numpy.typing import NDArray

from fnl.errors import RunError
from fnl.wire.npy import read_array, to_array

ARRAYS = "arrays"
SHADOW_ARRAYS = "shadow-arrays"
FLOOR_ARRAYS = "floor-arrays"
MASKED = "masked-sum"
"""In place of weights under shared noise: integers that tell nothing but in the sum of all."""
CONFIG = "config"
METRICS = "metrics"
ROUND = "server-round"
WANTED = "wanted"
UPLOAD = "upload"
UPLOAD_TYPE = f"{MessageType.QUERY}.{UPLOAD}"
"""Asks a client for the update it kept."""
SPENT_ROUNDS = "spent-rounds"
"""In a simulation: rounds that a client has trained in, or may have, before this one."""
CLIP_NORM = "clip-norm"
"""In a simulation: where a client's adaptive bound stood after its last answer."""
CORRECTION = "correction"
"""Arrays that a client adds to the gradient of each of its steps, behind clipping and noise."""
INITIAL = "initial-sha256"
"""Digest of the public weights that the run starts from: a client that keeps some checks it."""
RESIDUAL = "residual-arrays"
"""In a simulation: what a client left unsent of its updates, told by it and told to it again."""
KEPT = "kept-"
"""Begins the names of what a client keeps for the rest of a round, and never needs afterwards."""
REFUSAL = "refusal"
"""The record `{"reason": str}` of a client whose budget is spent; it then sends nothing else."""


def to_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> ArrayRecord:
    """Return named arrays, such as weights or a compressed update, as a Flower record."""
    record = ArrayRecord()
    for name, value in arrays.items():
        record[name] = to_array(value)  # ArrayRecord(dict) would make every Array twice
    return record


def from_arrays(record: ArrayRecord) -> dict[str, NDArray[np.float32]]:
    """Return the named weights of a Flower record, in its order: read-only, on its own memory.

    Raises:
        RunError: naming the first array that is damaged or not one of real numbers.
    """
    return {name: _weights(name, value) for name, value in record.items()}


def to_masked(vector: NDArray[np.uint32]) -> ArrayRecord:
    """Return a masked vector [P] as a Flower record."""
    return to_arrays({MASKED: vector})


def from_masked(record: ArrayRecord) -> NDArray[np.uint32]:
    """Return the masked vector of a Flower record: read-only, on its own memory.

    Raises:
        RunError: if it is damaged, or something else.
    """
    if set(record) != {MASKED}:
        raise RunError(f"the record {MASKED!r} has other arrays than one of that name")
    value = read_array(MASKED, record[MASKED])
    if value.dtype != np.uint32 or value.ndim != 1:
        raise RunError(f"the array {MASKED!r} is {value.dtype} of {value.ndim} axes, not uint32")
    return np.asarray(value, np.uint32)


def _weights(name: str, array: Array) -> NDArray[np.float32]:
    value = read_array(name, array)
    if value.dtype.kind != "f":
        raise RunError(f"the array {name[:80]!r} is {value.dtype}, not of real numbers")
    with np.errstate(over="ignore"):  # too large for single precision is infinite
        return np.asarray(value, np.float32)
