"""One cell of a grid, played: what became of every rule's ranking, and what the law expects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import polars as pl

from fnl.api.pilot import play_of, scores_of
from fnl.config import Config, parse_config
from fnl.config.rules import NOISE_KNOWN, SELECTIONS
from fnl.data.federated import open_federation
from fnl.fidelity.rules import LAWS, UNRANKED, Target
from fnl.planning.pilot import Pilot, run_pilot
from fnl.planning.predictions import OWN_DRAW, Scored, predict

RANKED = tuple(rule for rule in SELECTIONS if rule not in (*UNRANKED, *OWN_DRAW))
"""Rules that rank by what clients report: not by turns, nor by lots that privacy does not touch."""
ESTIMATES = ("plain", "shrunk", "filtered")


def played(config: Config) -> pl.DataFrame:
    """Return the scores of the whole run of `config`, which is private: a row a score.

    Columns: `rule`, `estimate`, `round`, `partition`; `private`, `shadow`, `clipped` (no noise) and
    `floor` (no privacy, other mini-batches), its score there. Of a rule, the same in all its rows:
    `law`, the correlation of noisy and clean scores that first order expects, and `by`, whether
    `fnl plan` would trust it. Of the run: `accuracy_first`, `accuracy`, `rate_shift` (mean over
    candidates' rounds), `sigma` and `clips` (medians).
    """
    config = parse_config(config.flat() | {"evaluation.shadow": True, "evaluation.floor": True})
    pilot = run_pilot(
        config, open_federation(config), config.run.rounds, play_of(config),
        evaluation=config.evaluation,
    )  # fmt: skip
    of_run = _of_run(pilot)
    parts = []
    for estimate in ESTIMATES:
        for rule, scored in scores_of(_estimating(pilot, estimate), _rules(estimate)).items():
            about = {"rule": rule, "estimate": estimate, **of_run}
            if estimate == "plain":
                found, _ = predict(rule, scored, pilot.rates, pilot.config)
                about |= {"law": _law(rule, pilot), "by": found.by}
            constants = {name: pl.lit(value) for name, value in about.items()}
            parts.append(_rows(scored, pilot).with_columns(**constants))
    return pl.concat(parts, how="diagonal_relaxed")


def _rows(scored: Scored, pilot: Pilot) -> pl.DataFrame:
    places = [
        (number, report.partition)
        for number, row in enumerate(pilot.reports, start=1)
        for report in row
    ]
    scores = {field.name: getattr(scored, field.name).ravel() for field in fields(scored)}
    where = pl.DataFrame(places, schema=["round", "partition"], orient="row")
    return where.with_columns(**{name: pl.Series(values) for name, values in scores.items()})


def _rules(estimate: str) -> Sequence[str]:
    return RANKED if estimate == "plain" else tuple(NOISE_KNOWN)


def _estimating(pilot: Pilot, estimate: str) -> Pilot:
    """Return the pilot with a configuration whose rules estimate, and are told ‖∇r‖."""
    gradient = 0.0 if np.isnan(pilot.rate_gradient) else pilot.rate_gradient
    settings = pilot.config.coordination.model_copy(
        update={"estimate": estimate, "rate_gradient": gradient}
    )
    return replace(pilot, config=pilot.config.model_copy(update={"coordination": settings}))


def _of_run(pilot: Pilot) -> dict[str, float]:
    shifts = [
        report.firing_rate_after - report.as_shadow().firing_rate_after
        for row in pilot.reports
        for report in row
    ]
    return {
        "accuracy_first": pilot.accuracy[0],
        "accuracy": pilot.accuracy[-1],
        "rate_shift": float(np.mean(shifts)),
        "sigma": float(np.median([noise.gradients for noise in pilot.noise.values()])),
        "clips": float(np.median(pilot.clips)),
    }


def _law(rule: str, pilot: Pilot) -> float | None:
    """Return the correlation that first order expects; None for a rule or steps it is not for."""
    if pilot.rates is None or rule not in LAWS:
        return None
    settings = pilot.config.coordination
    target = Target(settings.target_rate, settings.rate_band)
    return LAWS[rule](pilot.rates, target).correlation()
