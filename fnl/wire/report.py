"""What a client says beside its weights: the report, and what covers each part of it.

Everything that leaves a client is a field of `ClientReport` or an array of weights. Each field
declares what covers it, in which range it is, what it tells of a client's clips and what it is
computed from (`fields.py`): strict privacy, the check of what comes in, what `run.json` says of the
guarantee, its table in `docs/privacy.md` and reports made up to try a rule follow. On the wire a
report is one flat record; `ENTRIES` has all that may be in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

from flwr.app import MetricRecord

from fnl.columns import real, whole
from fnl.errors import RunError
from fnl.wire.fields import (
    SHARE,
    SIGNED,
    Cover,
    Source,
    Tells,
    Within,
    entries,
    flatten,
    nest,
    parts,
    paths,
    within,
)
from fnl.wire.incoming import checked
from fnl.wire.rates import Rates, Unprotected

NOISE_ABOVE = 4.0
"""Standard deviations by which noise may carry a released rate above its bound: 3 in 10^5 do."""
_SIGMA = Within(1e-9, 1e7)
"""Below, the square of a noise multiplier leaves the numbers that accountants can reckon with;
above is more than `calibrate` finds and `MOST_NOISE` times that."""
_BOUND = Within(1e-30)
"""A clipping bound is never 0: adaptive clipping multiplies it. Nor is the noise of a release."""
_NORMS = Tells("gradient norms and clip fraction")
_PLANNED = Source("plan, schedule and ledger", "nothing to cover: no clip enters")
_DRAWN = Source("mini-batches as drawn")
_SHADOW, _FLOOR = Source(key="`evaluation.shadow`"), Source(key="`evaluation.floor`")
_RAW = Source("raw gradients", key="`evaluation.sensitivity`")


@dataclass(frozen=True, kw_only=True)
class ClientReport:
    """The numbers a candidate sends beside its weights.

    Optional fields do not apply to every run (no privacy, no shadow) and are then not sent.
    Released rates carry noise: they may be negative or above 1. Under `run.strict-privacy` what is
    neither public nor accounted is withheld: rates and seconds are then nan. Under shared noise
    nobody is told the length of a client's own update.

    Attributes:
        before: rates of the round's global model.
        after: rates of the model the client trained.
        rate_noise: standard deviation of the noise on each released layer and class rate; None
            where rates are sent in the clear.
        before_in_clear: `before` as it would have read in the clear, for the shadow of a run that
            releases rates privately.
        shadow: the same round without privacy.
        floor: the same round without privacy and with other draws.
        clip_norm: C after the last step; it moves under adaptive clipping only.
    """

    partition: Annotated[int, Cover.PUBLIC, whole("", "the client")]
    before: Annotated[
        Rates,
        Cover.RELEASED,
        Tells("firing rates"),
        Tells("which labels a client has (per-class rates)"),
        "before",
    ]
    after: Annotated[Rates, Cover.RELEASED, "after"]
    train_loss: Annotated[
        float | None,
        Cover.OUTSIDE,
        Tells("training loss"),
        real("nats", "mean loss of drawn clips, before each step"),
    ] = None
    loss_before: Annotated[
        float | None,
        Cover.OUTSIDE,
        Tells("loss and accuracy of the global model on the client's clips"),
        real("nats", "mean cross-entropy of θ on the client's clips"),
    ] = None
    accuracy_before: Annotated[
        float | None,
        Cover.OUTSIDE,
        SHARE,
        Tells("loss and accuracy of the global model on the client's clips"),
        real("[0, 1]", "share of the client's clips that θ labels right"),
    ] = None
    clip_fraction: Annotated[
        float | None,
        Cover.OUTSIDE,
        SHARE,
        _NORMS,
        real("[0, 1]", "per-clip gradients above the bound, over all steps"),
    ] = None
    gradient_norm_median: Annotated[
        float | None, Cover.OUTSIDE, _NORMS, real("L2", "median of clips' gradients")
    ] = None
    gradient_norm_q10: Annotated[
        float | None, Cover.OUTSIDE, _NORMS, real("L2", "its first decile")
    ] = None
    gradient_norm_q90: Annotated[
        float | None, Cover.OUTSIDE, _NORMS, real("L2", "its last decile")
    ] = None
    num_examples: Annotated[
        int, Cover.PUBLIC, Tells("number of clips"), whole("clips (or speakers)", "n_k")
    ]
    steps: Annotated[int, Cover.PUBLIC, whole("steps", "mini-batches in the round")]
    frame_hop_ms: Annotated[
        int | None,
        Cover.PUBLIC,
        whole("ms", "the client's time step, where clients differ in it (`data.frame-hops`)"),
    ] = None
    sample_rate: Annotated[float, Cover.PUBLIC, SHARE, real("[0, 1]", "q of Poisson sampling")]
    seconds: Annotated[
        float,
        Cover.OUTSIDE,
        _DRAWN,
        Tells("training time"),
        real("s", "wall time of the client's round"),
    ]
    peak_memory_bytes: Annotated[int | None, Cover.OUTSIDE, _DRAWN, Tells("peak memory")] = None
    update_norm: Annotated[
        float | None,
        Cover.ACCOUNTED,
        Source(
            "the trained weights",
            "DP-SGD, in the ledger",
            "`privacy.mode = record`, `both`; not sent under `privacy.noise = distributed`",
        ),
        real("L2", "‖θ_k − θ‖₂ over all weights; of what was sent, where that is compressed"),
    ] = None
    clip_norm: Annotated[
        float | None,
        Cover.ACCOUNTED,
        _BOUND,
        Source(
            "gradient norms",
            "the count's noise, in the ledger",
            "`privacy.clipping = adaptive`; else it is a constant",
        ),
        real("L2", "C after the last step"),
    ] = None
    noise_multiplier: Annotated[
        float | None, Cover.ACCOUNTED, _SIGMA, _PLANNED, real("× C", "σ of gradients")
    ] = None
    epsilon: Annotated[
        float | None, Cover.ACCOUNTED, _PLANNED, real("", "ε of the ledger after it")
    ] = None
    delta: Annotated[
        float | None, Cover.PUBLIC, SHARE, real("[0, 1)", "δ at which ε is stated")
    ] = None
    rate_noise: Annotated[
        float | None,
        Cover.ACCOUNTED,
        _BOUND,
        _PLANNED,
        real("rate", "standard deviation of the noise on each released rate; null: in the clear"),
    ] = None
    before_in_clear: Annotated[Rates | None, Cover.SIMULATION, _SHADOW, "before_shadow"] = None
    shadow: Annotated[Unprotected | None, Cover.SIMULATION, _SHADOW, "shadow"] = None
    floor: Annotated[Unprotected | None, Cover.SIMULATION, _FLOOR, "floor"] = None
    predicted_rate_shift: Annotated[
        float | None,
        Cover.SIMULATION,
        SIGNED,
        _RAW,
        real("rate, signed", "E[Δr] to first order, see below"),
    ] = None
    predicted_rate_shift_sd: Annotated[
        float | None, Cover.SIMULATION, _RAW, real("rate", "√Var[Δr] over the noise")
    ] = None

    if not TYPE_CHECKING:  # a checker knows the properties below, and the parts

        def __getattr__(self, name: str) -> Any:
            """Return an entry of a part by its name in `ENTRIES`; None without that part."""
            path = PATHS.get(name, ())
            if name.startswith("__") or len(path) < 2:
                raise AttributeError(name if name.startswith("__") else no_such(name))
            return within(self, path)

    @property
    def firing_rate_before(self) -> float:
        """Rate of the network under the round's global model."""
        return self.before.firing_rate

    @property
    def firing_rate_after(self) -> float:
        """Rate of the network after training."""
        return self.after.firing_rate

    @property
    def layer_rates_before(self) -> list[float]:
        """Rate of each spiking layer under the round's global model."""
        return self.before.layers

    @property
    def layer_rates_after(self) -> list[float]:
        """Rate of each spiking layer after training."""
        return self.after.layers

    @property
    def class_rates_before(self) -> list[float]:
        """Rate for each label under the round's global model: see `Rates.classes`."""
        return self.before.classes

    @property
    def class_rates_after(self) -> list[float]:
        """Rate for each label after training: see `Rates.classes`."""
        return self.after.classes

    @property
    def rate_released(self) -> bool:
        """Whether the rates left the client through an accounted mechanism."""
        return self.rate_noise is not None

    def values(self) -> dict[str, Any]:
        """Return every number and list under its name in `ENTRIES`, but for those that are None."""
        return flatten(self)

    def to_record(self) -> MetricRecord:
        """Return the report as a Flower record; what is None is left out."""
        return MetricRecord({name.replace("_", "-"): v for name, v in self.values().items()})

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> ClientReport:
        """Return the report of `values()`, unchecked."""
        return nest(cls, values)

    @classmethod
    def from_record(cls, record: MetricRecord, *, most_rate: float = 1.0) -> ClientReport:
        """Parse and check a report.

        Args:
            record: what came; see `checked` for what is left out of it.
            most_rate: the most that a rate may be (`Config.most_rate`).

        Raises:
            RunError: naming the first field that is missing, unknown or out of range.
        """
        values: dict[str, Any] = {key.replace("-", "_"): value for key, value in record.items()}
        if len(values) < len(record):
            twice = next(key for key in record if "_" in key)
            raise RunError(f"a client's report has {twice!r} in two spellings")
        return cls.from_values(checked(values, ENTRIES, most_rate=most_rate))

    def as_shadow(self) -> ClientReport:
        """Return the report as it would have read without privacy; needs the shadow's rates."""
        return self._without_privacy("shadow", self.shadow)

    def as_floor(self) -> ClientReport:
        """Return the report as without privacy and with other draws; needs the floor's rates."""
        return self._without_privacy("floor", self.floor)

    def _without_privacy(self, kind: str, found: Unprotected | None) -> ClientReport:
        if found is None:
            raise RunError(f"partition {self.partition} sent no {kind} rates")
        return replace(
            self,
            before=self.before_in_clear or self.before,
            after=found.rates,
            update_norm=self.update_norm if found.update_norm is None else found.update_norm,
            rate_noise=None,
            noise_multiplier=None,
        )

    def accounted_only(self) -> ClientReport:
        """Return the report without what is neither public nor in the ledger.

        Whatever is not known to be one of the two is withheld: optional fields are left out, rates
        and seconds become nan.
        """
        changes: dict[str, Any] = {}
        for part in parts(ClientReport):
            if part.cover in (Cover.PUBLIC, Cover.ACCOUNTED):
                continue
            if part.cover is Cover.RELEASED and self.rate_released:
                continue
            value = getattr(self, part.name)
            plain = value.withheld() if isinstance(value, Rates) else math.nan
            changes[part.name] = None if part.optional else plain
        return replace(self, **changes)

    def in_range(self, rate_clip_norm: float = 1.0, *, most_rate: float = 1.0) -> ClientReport:
        """Return the report with released rates put back into (0, 1], as rules expect them.

        This is post-processing and costs no privacy. The floor is above zero so that noise alone
        does not take all weight from a client, or from all of them. A mean of what was clipped to
        C_r is at most C_r: a rate that is above by more than noise explains is a lie, and cut off.
        `most_rate` is the most that a rate may be (`Config.most_rate`).
        """
        if self.rate_noise is None:
            return self
        most = rate_clip_norm + NOISE_ABOVE * self.rate_noise
        most = min(most_rate, most)
        return replace(self, before=self.before.in_range(most), after=self.after.in_range(most))


ENTRIES = entries(ClientReport)
"""Every entry of the record by name (on the wire with - for _)."""
PATHS = paths(ClientReport)
"""Attributes of a report that lead to each entry, by its name."""


def no_such(name: str) -> str:
    """Return that a report has no attribute `name`, and what may be meant."""
    near = get_close_matches(name, [*ENTRIES, *(part.name for part in parts(ClientReport))], n=1)
    return f"a client's report has no {name!r}" + (f": did you mean {near[0]}?" if near else "")


def outside_guarantee(*, released: bool, strict: bool) -> list[str]:
    """Return, in words, what leaves a client without being in any ledger.

    The number of clips is in it whatever is configured: it is taken as public. A field that
    declares neither cover nor words is in it by its name.

    Args:
        released: whether firing rates go through `privacy.rate-release`.
        strict: whether what is in no ledger is withheld.
    """
    left = {Cover.PUBLIC} if strict else {Cover.PUBLIC, Cover.OUTSIDE}
    if not strict and not released:
        left.add(Cover.RELEASED)
    told = (
        words
        for part in parts(ClientReport)
        if part.cover in left
        for words in part.tells or ((part.name,) if part.cover is Cover.OUTSIDE else ())
    )
    return list(dict.fromkeys(told))
