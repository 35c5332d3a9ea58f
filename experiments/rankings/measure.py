"""From scores to how rankings agree: one row a run, rule and estimate. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from fnl.metrics.ranking import flip_rate, kendall_tau
from fnl.planning.predictions import Floats, Scored, in_noise

PER_RUN = ("accuracy_first", "accuracy", "rate_shift", "sigma", "clips")
_SCORES = ("private", "shadow", "clipped", "floor")


def measured(scores: pl.DataFrame, keys: Sequence[str], *, selected: int) -> pl.DataFrame:
    """Return a row a (`keys`, rule, estimate), in the order of the scores.

    Columns: `tau` and `flips` against the shadow, `tau_floor` (two draws of mini-batches) and
    `tau_clipped` (clipping alone), means over rounds; `seen`, the correlation of noisy and clean
    scores that the noise seen in this run makes; `law`, `by` and `PER_RUN` as of `played`.

    Args:
        scores: of `experiments.rankings.play.played`, one run a value of `keys`.
        keys: columns that tell runs apart.
        selected: m, for the flips.
    """
    groups = scores.group_by(*keys, "rule", "estimate", maintain_order=True)
    return pl.DataFrame(
        [
            {
                **dict(zip((*keys, "rule", "estimate"), values, strict=True)),
                **_agreement(_scored(group), selected),
                **group.select("law", "by", *PER_RUN).row(0, named=True),
            }
            for values, group in groups
        ],
        infer_schema_length=None,
    )


def _scored(group: pl.DataFrame) -> Scored:
    rounds = group["round"].n_unique()
    return Scored(**{name: group[name].to_numpy().reshape(rounds, -1) for name in _SCORES})


def _agreement(scored: Scored, selected: int) -> dict[str, float | None]:
    flips = [
        flip_rate(clean, noisy, selected)
        for clean, noisy in zip(scored.shadow, scored.private, strict=True)
    ]
    return {
        "tau": _tau(scored.private, scored.shadow),
        "flips": float(np.mean(flips)),
        "tau_floor": _tau(scored.floor, scored.shadow),
        "tau_clipped": _tau(scored.clipped, scored.shadow),
        "seen": in_noise(scored).correlation(),
    }


def _tau(noisy: Floats, clean: Floats) -> float | None:
    """Return the mean of Kendall's τ over the rounds in which clean scores differ.

    Noisy scores that are all the same rank nobody: τ counts as 0, else an estimate that gives up in
    its worst rounds would be praised for the others.
    """
    rounds = [(a, b) for a, b in zip(noisy, clean, strict=True) if np.ptp(b) > 0]
    taus = [kendall_tau(a, b) or 0.0 for a, b in rounds]
    return float(np.mean(taus)) if taus else None
