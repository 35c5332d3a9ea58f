"""The headline findings of a run: sentences with their numbers, computed from its tables."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from experiments.figures.catalogue import LeftOut
from experiments.figures.of_run import SHIFT
from experiments.figures.predicted_shift import correlation_sentence, measured_shift, pearson
from experiments.figures.run_tables import RunTables
from experiments.report.intervals import Estimate, mean_over_rounds, number, wilson
from experiments.report.page import Finding

_NO_SHADOW = (
    "No shadow was computed (evaluation.shadow = false), so this run alone cannot say "
    "what privacy did to rates, ranking or updates."
)


def findings_of_run(run: RunTables) -> list[Finding]:
    """Return what the run found, also where it found nothing."""
    parts = [_accuracy, _rate]
    if run.has_shadow:
        parts += [_rate_shift, _ranking, _attenuation, _prediction]
    found = [finding for part in parts for finding in part(run)]
    if run.config.is_private and not run.has_shadow:
        found.append(Finding("Effect of privacy", "not measured", _NO_SHADOW))
    return [*found, *_privacy(run), *_energy(run)]


def _accuracy(run: RunTables) -> Iterator[Finding]:
    last = _known(run, "accuracy").row(-1, named=True)
    share = wilson(last["accuracy"] * run.evaluation_clips, run.evaluation_clips)
    chance = 1 / run.labels
    against = _against(share, chance, "above", "below", "not distinguishable from")
    clips = "synthetic clips" if run.synthetic else "clips"
    yield Finding(
        "Accuracy",
        f"{100 * share.value:.1f} %",
        f"After round {last['round']} the global model labels "
        f"{share.show('.1f', scale=100, unit=' %')} of the {run.evaluation_clips} {clips} of the "
        f"{run.config.evaluation.split} split correctly: {against} guessing "
        f"({100 * chance:.1f} %). The interval is over clips; it says nothing "
        "about other seeds.",
    )


def _rate(run: RunTables) -> Iterator[Finding]:
    known = _known(run, "firing_rate")
    if known.height:
        rate, rounds = known["firing_rate"], known["round"]
        yield Finding(
            "Firing rate",
            f"{rate[-1]:.3f}",
            f"Spikes a neuron and step of the global model on the {run.config.evaluation.split} "
            f"split after round {rounds[-1]}; it was {rate[0]:.3f} in round {rounds[0]}.",
        )


def _rate_shift(run: RunTables) -> Iterator[Finding]:
    rows = run.clients.select("round", shift=SHIFT).drop_nulls()
    mean = _over_rounds(rows, "shift")
    if mean is None:
        yield _too_short("Rate shift")
        return
    low, high = np.quantile(rows["shift"].to_numpy(), [0.25, 0.75])
    moved = "private training {} the candidates' rates"
    none = "no shift of the candidates' mean rate can be told from zero"
    verdict = _against(mean, 0, moved.format("raised"), moved.format("lowered"), none)
    yield Finding(
        "Rate shift",
        number(mean.value, "+.4f"),
        f"Against training without DP from the same model on the same mini-batches, {verdict}: "
        f"mean {mean.show('+.4f')} spikes a neuron and step over "
        f"{rows['round'].n_unique()} rounds; half of the {rows.height} candidates lie between "
        f"{number(low, '+.4f')} and {number(high, '+.4f')}.",
    )


def _ranking(run: RunTables) -> Iterator[Finding]:
    tau = _over_rounds(run.rounds, "kendall_tau_shadow")
    if tau is None:
        yield _too_short("Ranking")
        return
    relation = _against(
        tau,
        0,
        "agrees with the non-private one better than a random order",
        "runs against the non-private one",
        "cannot be told from a random order by its agreement with the non-private one",
    )
    mean = f"mean Kendall τ {tau.show('.2f')} over rounds"
    text = f"The ranking of the candidates {relation}: {mean}."
    if (flips := _over_rounds(run.rounds, "flip_rate_shadow")) is not None:
        coordination = run.config.coordination
        chance = 1 - coordination.selected / coordination.candidates
        text += (
            f" {flips.show('.0f', scale=100, unit=' %')} of the selected clients would not have "
            f"been selected without DP; of a random selection {100 * chance:.0f} % would not."
        )
    yield Finding("Ranking, Kendall τ", number(tau.value, ".2f"), text)


def _attenuation(run: RunTables) -> Iterator[Finding]:
    ratio = _over_rounds(run.rounds, "attenuation")
    if ratio is None:
        return
    same = "not distinguishable in length from"
    verdict = _against(ratio, 1, "longer than", "shorter than", same)
    cosine = _over_rounds(run.rounds, "cosine_shadow")
    direction = f" Its cosine with it is {cosine.show('.2f')} on average." if cosine else ""
    yield Finding(
        "Attenuation",
        number(ratio.value, ".2f"),
        f"The global update is {verdict} the one that the same candidates give without DP: "
        f"ratio of norms {ratio.show('.2f')} over rounds.{direction}",
    )


def _prediction(run: RunTables) -> Iterator[Finding]:
    try:
        rows = measured_shift(run.clients)
    except LeftOut:
        return
    if rows.height >= 3:
        found = pearson(rows)
        r = "undefined" if found is None else f"{found.statistic:.2f}"
        text = f"First-order prediction against measurement. {correlation_sentence(rows)}"
        yield Finding("Prediction of the shift", r, text)


def _privacy(run: RunTables) -> Iterator[Finding]:
    spent = run.rounds["epsilon_max"].drop_nulls()
    if run.config.is_private and spent.len():
        budget = run.epsilon_budget
        of = "with the noise fixed" if budget is None else f"of the {budget:g} allowed"
        yield Finding(
            "Privacy spent",
            f"ε = {float(str(spent.max())):.2f}",
            f"By the client that has spent most, {of}, at δ = {run.config.privacy.delta:g}. What "
            "this covers and what not is below.",
        )


def _energy(run: RunTables) -> Iterator[Finding]:
    known = _known(run, "energy_nj")
    if known.height:
        yield Finding(
            "Energy",
            f"{known['energy_nj'][-1]:.1f} nJ",
            "Estimate of one inference of the final model from its synaptic operations, not a "
            "measurement on a device.",
        )


def _known(run: RunTables, column: str) -> pl.DataFrame:
    return run.rounds.drop_nulls(column).sort("round")


def _over_rounds(table: pl.DataFrame, column: str) -> Estimate | None:
    rows = table.select("round", column).drop_nulls()
    return mean_over_rounds(rows[column].to_numpy().astype(float), rows["round"].to_numpy())


def _against(estimate: Estimate, value: float, above: str, below: str, neither: str) -> str:
    """Return which of the three the interval of `estimate` says of `value`."""
    if estimate.low > value:
        return above
    return below if estimate.high < value else neither


def _too_short(name: str) -> Finding:
    text = "An interval of a mean over rounds needs four rounds with a value."
    return Finding(name, "no interval", text)
