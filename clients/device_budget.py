"""What an `epsilon-budget` asks of a run: it bounds everything that leaves the device.

A server writes the configuration of a run, and so what a device sends. A budget that only counted
what the configuration calls private would bound nothing. A device with one refuses, before it
computes anything on its clips, whatever would let out what its ledger does not cover. How it counts
is fixed before its first spending and kept beside the ledger: `Terms`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from flwr.app import Message

from fnl.config import Config
from fnl.config.privacy_combinations import check_privacy
from fnl.data.own_clips import fixed_labels
from fnl.errors import BudgetError, ConfigError
from fnl.privacy.budget import LARGEST_N_DELTA, delta_of
from fnl.privacy.filter import order_of
from fnl.privacy.ledger import FixedOrder
from fnl.privacy.limits import Limit
from fnl.weights import Weights
from fnl.wire import exchange

NAME = "the device's epsilon-budget"
LARGEST_DELTA = 1e-3
"""The largest δ at which a budget is counted, however few the clips."""
LEAST_CLIP_NORM, LARGEST_CLIP_NORM = 1e-6, 1e6
"""Bounds outside which sums in single precision round or overflow in ways that no noise hides."""


LARGEST_WEIGHT = 100.0
"""Weights beyond which rounding of one sum could carry a clip into the gradients of others."""


@dataclass(frozen=True)
class Terms:
    """How a device counts its budget, fixed when it spends for the first time.

    Attributes:
        order: α of the Rényi filter.
        delta: the δ of the budget; it only ever falls, as clips are added.
        words: the labels of all runs, sorted. The number of clips is public: of more than one list
            of labels it would tell how many there are of each.
    """

    order: float
    delta: float
    words: tuple[str, ...]

    def limit(self, epsilon: float) -> Limit:
        """Return the budget `epsilon` on these terms."""
        return Limit(epsilon, self.delta, NAME, FixedOrder(self.order))


def check_accounted(config: Config) -> None:
    """Refuse a run that would let out what a ledger does not cover.

    Raises:
        BudgetError: naming the key and what would be right.
    """
    privacy = config.privacy
    if not config.is_private:
        raise BudgetError(
            f"privacy.mode = {privacy.mode!r} adds no noise on the device: one with an "
            "epsilon-budget takes part under privacy.mode = 'record' or 'both' only"
        )
    if not config.run.strict_privacy:
        raise BudgetError(
            "run.strict-privacy = false sends rates, losses, gradient norms and times that no "
            "ledger covers: a device with an epsilon-budget needs run.strict-privacy = true"
            + _missing_under_strict(config)
        )
    for key, value in (
        ("clip-norm", privacy.clip_norm),
        ("rate-clip-norm", privacy.rate_clip_norm),
    ):
        if not LEAST_CLIP_NORM <= value <= LARGEST_CLIP_NORM:
            raise BudgetError(
                f"privacy.{key} = {value:g} is beyond what single precision can hide noise in: a "
                f"device with an epsilon-budget takes {LEAST_CLIP_NORM:g} to {LARGEST_CLIP_NORM:g}"
            )


def check_weights(weights: Weights) -> None:
    """Refuse a global model whose weights are so large that rounding is no small thing under it.

    How a sum is rounded may depend on the size of the mini-batch. Where logits are of 1e10, the
    last digit of that moves the gradients of all other clips by several C.

    Raises:
        BudgetError: naming the weight.
    """
    for name, value in weights.items():
        largest = float(np.abs(value).max(initial=0.0))
        if not largest <= LARGEST_WEIGHT:  # as it is for nan
            raise BudgetError(
                f"the global model has a weight of {largest:.3g} in {name}: a device with an "
                f"epsilon-budget takes none above {LARGEST_WEIGHT:g}, under which rounding could "
                "carry a clip into the gradients of others"
            )


def check_uncorrected(message: Message) -> None:
    """Refuse to add what the server sends to gradients: where steps lead to is not checked.

    Raises:
        BudgetError: if it sends something.
    """
    if exchange.CORRECTION in message.content:
        raise BudgetError(
            "the server corrects gradients (coordination.algorithm), which a device with an "
            "epsilon-budget does not take: it could drive the weights within a round to where "
            "rounding carries a clip into the gradients of others"
        )


def check_words(config: Config, kept: Terms | None) -> None:
    """Refuse a run with other labels than those before it on the same clips.

    Raises:
        BudgetError: naming the key and what would be right.
    """
    if kept is not None and _words(config) != kept.words:
        raise BudgetError(
            f"data.words = {config.data.words!r} differs from the labels of earlier runs: numbers "
            "of clips under several lists would tell which labels a device has, so one with an "
            f"epsilon-budget stays with {','.join(kept.words)}"
        )


def terms_of(config: Config, epsilon: float, clips: int, kept: Terms | None) -> Terms:
    """Return on what terms a run is counted over `clips` clips: as kept, or for the first time.

    Raises:
        BudgetError: if the run's δ is too large for so many clips.
    """
    largest = LARGEST_N_DELTA / clips
    if (delta := delta_of(config.privacy.delta, clips)) > largest:
        given = "" if config.privacy.delta else f", which is {delta:.2g} here,"
        raise BudgetError(
            f"privacy.delta = {config.privacy.delta:g}{given} is above 1/(10 n) of the {clips} "
            "clips of a device with an epsilon-budget: set privacy.delta = "
            f"{_round_down(largest):g} or less"
        )
    own = min(LARGEST_DELTA, largest)
    if kept is not None:
        return Terms(kept.order, min(kept.delta, own), kept.words)
    return Terms(order_of(epsilon, own).order, own, _words(config))


def _missing_under_strict(config: Config) -> str:
    """Return what else has to change for strict privacy, as the end of a sentence."""
    strict = config.model_copy(
        update={"run": config.run.model_copy(update={"strict_privacy": True})}
    )
    try:
        check_privacy(strict)
    except ConfigError as error:
        return f"; {error}"
    return ""


def _words(config: Config) -> tuple[str, ...]:
    return tuple(sorted(fixed_labels(config.data.words)))


def _round_down(delta: float) -> float:
    """Return `delta` rounded down to one digit."""
    unit = 10.0 ** math.floor(math.log10(delta))
    return math.floor(delta / unit) * unit
