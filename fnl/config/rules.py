"""The built-in rules of coordination: their names, and what each reads of a client's report.

A name that a rule reads is one in `fnl.wire.report.ENTRIES`, or `MODELS`. What privacy asks of a
rule follows from it: see `uncovered`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

MODELS = "models"
"""The selected clients' weights, where a rule looks at them and does more than average them."""

_CLASSES = frozenset({"class_rates_before", "class_rates_after"})
_RATES = frozenset({"firing_rate_before", "firing_rate_after"})
_RATE = frozenset({"firing_rate_after"})
_BEFORE = frozenset({"firing_rate_before"})
_CLIPS = frozenset({"num_examples"})

NOISE = frozenset({"rate_noise", "noise_multiplier", "clip_norm"})
"""What a report says of its own noise; there is none of it in a run without that noise."""
KNOWN_NOISE = NOISE | {"steps", "sample_rate", "num_examples"}
"""What rules read that know how noisy rates are: all of it public or in the ledger."""

Reads = Mapping[str, frozenset[str]]

SELECTIONS: Reads = {
    "random": frozenset(),
    "round-robin": frozenset({"partition"}),
    "rate-difference": _CLASSES,
    "rate-difference-debiased": _CLASSES | KNOWN_NOISE,
    "rate-difference-signed": _CLASSES,
    "rate-difference-scalar": _RATES,
    "rate-difference-scalar-signed": _RATES,
    "highest-rate": _RATE,
    "highest-rate-global": _BEFORE,
    "rate-change-global": _BEFORE | {"partition"},
    "lowest-rate": _RATE,
    "target-rate": _RATE,
    "rate-proportional": _RATE,
    "rate-diversity": frozenset({"layer_rates_after"}),
    "loss": frozenset({"loss_before"}),
    "update-norm": frozenset({"update_norm"}),
}
"""Rules of `server.selection`."""

NOISE_KNOWN: Reads = {
    name: SELECTIONS[name] | KNOWN_NOISE | {"partition"}
    for name in (
        "rate-difference",
        "rate-difference-debiased",
        "rate-difference-signed",
        "rate-difference-scalar",
        "rate-difference-scalar-signed",
        "highest-rate",
        "lowest-rate",
        "highest-rate-global",
        "update-norm",
    )
}
"""Rules whose scores' noise the server can tell: those that `coordination.estimate` works on."""

WEIGHTINGS: Reads = {
    "fedavg": _CLIPS,
    "rate-weighted": _CLIPS | _RATE,
    "rate-shrunk": _CLIPS | _RATE | KNOWN_NOISE,
    "inverse-rate": _CLIPS | _RATE,
    "afedsnn": _CLIPS | _RATE | {"partition"},
}
"""Aggregation rules that give every selected client a share."""

ROBUST: Reads = dict.fromkeys(
    ("median", "trimmed-mean", "krum", "multi-krum", "bulyan"), _CLIPS | {MODELS}
)
"""Aggregation rules that combine the models themselves: Flower's."""

AGGREGATIONS: Reads = {**WEIGHTINGS, **ROBUST}
"""Rules of `server.aggregation`."""


def uncovered(reads: Iterable[str], *, released: bool, client_level: bool = False) -> list[str]:
    """Return which of `reads` the privacy of a run does not cover, by name.

    Args:
        reads: what rules read.
        released: whether firing rates go through `privacy.rate-release`.
        client_level: whether the server's noise on the average is to cover it: then nothing that a
            client computes may be read. Else the clients' ledgers are, and weights are covered.
    """
    from fnl.wire.report import ENTRIES, Cover  # noqa: PLC0415 it takes Flower, a second to import

    covers = {Cover.PUBLIC}
    if not client_level:
        covers |= {Cover.ACCOUNTED} | ({Cover.RELEASED} if released else set())
    return [
        name
        for name in sorted(reads)
        if (Cover.ACCOUNTED if name == MODELS else ENTRIES[name].cover) not in covers
    ]
