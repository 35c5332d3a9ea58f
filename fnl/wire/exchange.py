"""What crosses the wire between server and clients, typed and checked at both ends.

Clients and server never import each other; they share this file. Everything that leaves a client
is a field of `ClientReport` or an array of weights, so what is covered by the privacy guarantee
and what is not can be read off here: see `OUTSIDE_GUARANTEE`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from flwr.app import Array, ArrayRecord, MessageType, MetricRecord
from numpy.typing import NDArray

from fnl.errors import RunError
from fnl.wire.npy import to_array, view_array

ARRAYS = "arrays"
SHADOW_ARRAYS = "shadow-arrays"
FLOOR_ARRAYS = "floor-arrays"
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
REFUSAL = "refusal"
"""The record `{"reason": str}` of a client whose budget is spent; it then sends nothing else."""

RATES_OUTSIDE = ("firing rates", "which labels a client has (per-class rates)")
"""What is said by rates in the clear; `privacy.rate-release` brings it into the ledger."""

OUTSIDE_GUARANTEE = (
    *RATES_OUTSIDE,
    "training loss",
    "loss of the global model on the client's clips",
    "gradient norms and clip fraction",
    "number of clips",
    "training time",
    "peak memory",
)
"""Computed on private data, sent in the clear, and not in any ledger, unless released privately."""


@dataclass(frozen=True)
class ClientReport:
    """The numbers a candidate sends beside its weights.

    Optional fields do not apply to every run (no privacy, no shadow) and are then not sent.
    Per-class rates are means over the clips of a class, nan for a class of which the client has
    none. Where rates are released privately (`rate_noise`), a class' rate is its part of the
    network's rate instead, so that it does not tell which labels a client has; and released rates
    carry noise: they may be negative or above 1.

    Under `run.strict-privacy` what is neither public nor accounted is withheld: rates and seconds
    are then nan.

    Attributes:
        rate_noise: standard deviation of the noise on each released layer and class rate; None
            where rates are sent in the clear.
        firing_rate_before_shadow: the rate before training as it would have read in the clear, for
            the shadow of a run that releases rates privately; likewise of layers and classes.
        clip_norm: C after the last step; it moves under adaptive clipping only.
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
    layer_rates_shadow_distance: list[float] | None = None
    layer_rates_shadow_neurons: list[float] | None = None
    firing_rate_floor: float | None = None
    layer_rates_floor: list[float] | None = None
    class_rates_floor: list[float] | None = None
    layer_rates_floor_distance: list[float] | None = None
    predicted_rate_shift: float | None = None
    predicted_rate_shift_sd: float | None = None
    peak_memory_bytes: int | None = None
    loss_before: float | None = None
    update_norm_shadow: float | None = None
    update_norm_floor: float | None = None
    rate_noise: float | None = None
    firing_rate_before_shadow: float | None = None
    layer_rates_before_shadow: list[float] | None = None
    class_rates_before_shadow: list[float] | None = None
    gradient_norm_q10: float | None = None
    gradient_norm_q90: float | None = None
    clip_norm: float | None = None

    @property
    def rate_released(self) -> bool:
        """Whether the rates left the client through an accounted mechanism."""
        return self.rate_noise is not None

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
        known = {field.name for field in fields(cls)}
        withheld = _all_nan(values.get("seconds"))  # a clock never says so
        for name in values.keys() - known:
            raise RunError(f"a client's report has the unknown field {name!r}")
        for field in fields(cls):
            if field.name not in values:
                if "None" in str(field.type):
                    continue
                raise RunError(f"a client's report lacks {field.name!r}")
            if withheld and field.name in ("seconds", *_RELEASED) and _all_nan(values[field.name]):
                continue
            noisy = "rate_noise" in values and field.name in _RELEASED
            _check(field.name, str(field.type), values[field.name], noisy=noisy)
        _check_lengths(values)
        return cls(**values)  # type: ignore[arg-type]  # every value was checked just above

    def as_shadow(self) -> ClientReport:
        """Return the report as it would have read without privacy; needs the shadow's rates."""
        return self._with_rates_of("shadow")

    def as_floor(self) -> ClientReport:
        """Return the report as without privacy and with other draws; needs the floor's rates."""
        return self._with_rates_of("floor")

    def _with_rates_of(self, kind: str) -> ClientReport:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if values[f"firing_rate_{kind}"] is None:
            raise RunError(f"partition {self.partition} sent no {kind} rates")
        for stem in _STEMS:
            values[f"{stem}_after"] = values[f"{stem}_{kind}"]
            if values[f"{stem}_before_shadow"] is not None:
                values[f"{stem}_before"] = values[f"{stem}_before_shadow"]
        if values[f"update_norm_{kind}"] is not None:
            values["update_norm"] = values[f"update_norm_{kind}"]
        return ClientReport(**{**values, "rate_noise": None})

    def accounted_only(self) -> ClientReport:
        """Return the report without what is neither public nor in the ledger.

        Whatever is not known to be one of the two is withheld: optional fields are left out, rates
        and seconds become nan.
        """
        sent = _ACCOUNTED + (_RELEASED if self.rate_released else ())
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for field in fields(self):
            if field.name in sent:
                continue
            if field.default is None:
                values[field.name] = None
            elif isinstance(values[field.name], list):
                values[field.name] = [math.nan] * len(values[field.name])
            else:
                values[field.name] = math.nan
        return ClientReport(**values)

    def in_range(self) -> ClientReport:
        """Return the report with released rates put back into (0, 1], as rules expect them.

        This is post-processing and costs no privacy. The floor is above zero so that noise alone
        does not take all weight from a client, or from all of them.
        """
        if not self.rate_released:
            return self
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in _RELEASED:
            bounded = np.clip(np.array(values[name]), RATE_FLOOR, 1.0)
            values[name] = bounded.tolist()
        return ClientReport(**values)


RATE_FLOOR = 1e-6
"""The least rate a rule is given of a client that releases its rates privately."""

_SIGNED = ("predicted_rate_shift",)
_STEMS = ("firing_rate", "layer_rates", "class_rates")
_RELEASED = tuple(f"{stem}_{when}" for stem in _STEMS for when in ("before", "after"))
_ACCOUNTED = (
    "partition",
    "num_examples",
    "steps",
    "sample_rate",
    "noise_multiplier",
    "epsilon",
    "delta",
    "rate_noise",
    "update_norm",
    "clip_norm",
)
"""Public, or computed from what the ledger covers: the weights and an adaptive bound."""

_RATES = (*_STEMS, "sample_rate", "clip_fraction")


def _all_nan(value: object) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return bool(numbers) and all(isinstance(n, float) and math.isnan(n) for n in numbers)


def _check(name: str, kind: str, value: object, *, noisy: bool = False) -> None:
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
        if noisy and math.isfinite(number):
            continue
        if not math.isfinite(number) or (number < 0 and name not in _SIGNED):
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
    for stem in _STEMS[1:]:
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
