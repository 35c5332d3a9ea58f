"""What crosses the wire between server and clients, typed and checked at both ends.

Clients and server never import each other; they share this file. Everything that leaves a client
is a field of `ClientReport` or an array of weights, so what is covered by the privacy guarantee
and what is not can be read off here: see `OUTSIDE_GUARANTEE`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import get_type_hints

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord
from numpy.typing import NDArray

from fnl.errors import RunError
from fnl.npy import to_array, view_array

ARRAYS = "arrays"
SHADOW_ARRAYS = "shadow-arrays"
CONFIG = "config"
METRICS = "metrics"
ROUND = "server-round"

OUTSIDE_GUARANTEE = (
    "firing rates",
    "which labels a client has (per-class rates)",
    "training loss",
    "gradient norms and clip fraction",
    "number of clips",
    "training time",
)
"""Computed on private data, sent in the clear, and not in any ledger."""


@dataclass(frozen=True)
class ClientReport:
    """The numbers a candidate sends beside its weights.

    Optional fields do not apply to every run (no privacy, no shadow) and are then not sent.
    Per-class rates are nan for a class of which the client has no clip.
    """

    partition: int
    num_examples: int
    steps: int
    sample_rate: float
    seconds: float
    firing_rate_before: float
    firing_rate_after: float
    layer_rates_before: list[float]
    layer_rates_after: list[float]
    class_rates_before: list[float]
    class_rates_after: list[float]
    update_norm: float
    train_loss: float | None = None
    clip_fraction: float | None = None
    gradient_norm_median: float | None = None
    noise_multiplier: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    firing_rate_shadow: float | None = None
    layer_rates_shadow: list[float] | None = None
    class_rates_shadow: list[float] | None = None

    def to_record(self) -> MetricRecord:
        """Return the report as a Flower record; fields that are None are left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return MetricRecord(
            {name.replace("_", "-"): value for name, value in values.items() if value is not None}
        )

    @classmethod
    def from_record(cls, record: MetricRecord) -> ClientReport:
        """Parse and check a report.

        Raises:
            RunError: naming the first field that is missing, unknown or out of range.
        """
        values: dict[str, object] = {key.replace("-", "_"): value for key, value in record.items()}
        if len(values) < len(record):
            twice = next(key for key in record if "_" in key)
            raise RunError(f"a client's report has {twice!r} in two spellings")
        hints = get_type_hints(cls)
        for name in values.keys() - hints.keys():
            raise RunError(f"a client's report has the unknown field {name!r}")
        for field in fields(cls):
            if field.name not in values:
                if "None" in str(field.type):
                    continue
                raise RunError(f"a client's report lacks {field.name!r}")
            _check(field.name, str(field.type), values[field.name])
        _check_lengths(values)
        return cls(**values)  # type: ignore[arg-type]  # every value was checked just above

    def as_shadow(self) -> ClientReport:
        """Return the report as it would have read without privacy; needs the shadow's rates."""
        if self.firing_rate_shadow is None:
            raise RunError(f"partition {self.partition} sent no shadow rates")
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for stem in ("firing_rate", "layer_rates", "class_rates"):
            values[f"{stem}_after"] = values[f"{stem}_shadow"]
        return ClientReport(**values)


_RATES = ("firing_rate", "layer_rates", "class_rates", "sample_rate", "clip_fraction")


def _check(name: str, kind: str, value: object) -> None:
    numbers = value if isinstance(value, list) else [value]
    if isinstance(value, list) != kind.startswith("list"):
        raise RunError(f"a client's report has {name} = {value!r}: expected {kind}")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise RunError(f"a client's report has {name} = {number!r}: expected {kind}")
        if kind.startswith("int") and not isinstance(number, int):
            raise RunError(f"a client's report has {name} = {number!r}: expected a whole number")
        if math.isnan(number) and name.startswith("class_rates"):
            continue
        if not math.isfinite(number) or number < 0:
            hint = (
                "; if training diverged, lower training.learning-rate"
                if not math.isfinite(number)
                else ""
            )
            raise RunError(
                f"a client's report has {name} = {number!r}: not a finite count or size{hint}"
            )
        if name.startswith(_RATES) and number > 1:
            raise RunError(f"a client's report has {name} = {number!r}: a share is at most 1")


def _check_lengths(values: dict[str, object]) -> None:
    """Refuse rates of unequal numbers of layers or classes: one would broadcast against many."""
    for stem in ("layer_rates", "class_rates"):
        lengths = {
            name: len(value)
            for name, value in values.items()
            if name.startswith(stem) and isinstance(value, list)
        }
        if 0 in lengths.values() or len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} {length}" for name, length in sorted(lengths.items()))
            raise RunError(f"a client's report has {stem} of unequal or no length: {counts}")


def to_arrays(weights: dict[str, NDArray[np.float32]]) -> ArrayRecord:
    """Return named weights as a Flower record."""
    record = ArrayRecord()
    for name, value in weights.items():
        record[name] = to_array(np.asarray(value))  # ArrayRecord(dict) would make every Array twice
    return record


def from_arrays(record: ArrayRecord) -> dict[str, NDArray[np.float32]]:
    """Return the named weights of a Flower record, in its order: read-only, on its own memory.

    Raises:
        RunError: naming the first array that is damaged or not one of real numbers.
    """
    return {name: _weights(name, value) for name, value in record.items()}


def _weights(name: str, array: Array) -> NDArray[np.float32]:
    try:
        value = view_array(array)
    except (TypeError, ValueError) as error:
        raise RunError(f"the array {name[:80]!r} cannot be read: {error}") from None
    if value.dtype.kind != "f":
        raise RunError(f"the array {name[:80]!r} is {value.dtype}, not of real numbers")
    with np.errstate(over="ignore"):  # too large for single precision is infinite
        return np.asarray(value, np.float32)
