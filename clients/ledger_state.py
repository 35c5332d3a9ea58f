"""What a client keeps in the Flower context: its ledger, and its adaptive clipping bound.

It stays on the client and outlives the round.
"""

from __future__ import annotations

import math

from flwr.app import MetricRecord, RecordDict

from fnl.privacy.ledger import Ledger, Spend

LEDGER = "ledger"
CLIPPING = "clipping"


def load_ledger(state: RecordDict) -> Ledger:
    """Return the ledger kept in `state`; empty for a client that has not trained yet.

    Raises:
        TypeError: if the record is none that `save_ledger` writes.
        ValueError: if an entry is no step of the mechanism: better than to count it for less.
    """
    if LEDGER not in state:
        return Ledger()
    record = state[LEDGER]
    if not isinstance(record, MetricRecord):
        raise TypeError("the client's ledger is not a metric record")
    columns = (record["noise-multiplier"], record["sample-rate"], record["steps"])
    if not all(isinstance(column, list) for column in columns):
        raise TypeError("the client's ledger has a column that is not a list")
    entries = zip(*columns, strict=True)  # type: ignore[arg-type]  # lists, checked above
    return Ledger().with_entries(Spend(float(z), float(q), int(steps)) for z, q, steps in entries)


def save_ledger(state: RecordDict, ledger: Ledger) -> None:
    """Keep `ledger` in `state`, in place."""
    if not ledger.entries:
        return
    state[LEDGER] = MetricRecord(
        {
            "noise-multiplier": [entry.noise_multiplier for entry in ledger.entries],
            "sample-rate": [entry.sample_rate for entry in ledger.entries],
            "steps": [entry.steps for entry in ledger.entries],
        }
    )


def load_clip_norm(state: RecordDict) -> float | None:
    """Return where the adaptive bound stood after the client's last round; None before it.

    Raises:
        ValueError: if the record is none that `save_clip_norm` writes.
    """
    if CLIPPING not in state:
        return None
    record = state[CLIPPING]
    value = record.get("clip-norm") if isinstance(record, MetricRecord) else None
    if not isinstance(value, float) or not 0 < value < math.inf:
        raise ValueError(f"the client's state has the clipping bound {value!r}")
    return value


def save_clip_norm(state: RecordDict, clip_norm: float | None) -> None:
    """Keep the bound in `state`, in place."""
    if clip_norm is not None:
        state[CLIPPING] = MetricRecord({"clip-norm": clip_norm})
