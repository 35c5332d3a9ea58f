"""The headline findings of a run: sentences with their numbers, computed from its tables."""

from __future__ import annotations

import numpy as np
import polars as pl

from experiments.figures.catalogue import LeftOut
from experiments.figures.predicted_shift import correlation_sentence, measured_shift
from experiments.figures.run_tables import RunTables
from experiments.report.intervals import Estimate, mean_over_rounds, number, wilson
from experiments.report.page import Finding


def findings_of_run(run: RunTables) -> list[Finding]:
    """Return what the run found, also where it found nothing."""
    found = [_accuracy(run), *_rate(run)]
    if run.has_shadow:
        found += [*_rate_shift(run), *_ranking(run), *_attenuation(run), *_prediction(run)]
    elif run.config.is_private:
        found.append(
            Finding(
                "Effect of privacy",
                "not measured",
                "No shadow was computed (evaluation.shadow = false), so this run alone cannot say "
                "what privacy did to rates, ranking or updates.",
            )
        )
    return [*found, *_privacy(run), *_energy(run)]


def _accuracy(run: RunTables) -> Finding:
    known = run.rounds.drop_nulls("accuracy").sort("round")
    last = known.row(-1, named=True)
    share = wilson(last["accuracy"] * run.evaluation_clips, run.evaluation_clips)
    chance = 1 / run.labels
    if share.low > chance:
        against = "above"
    else:
        against = "below" if share.high < chance else "not distinguishable from"
    clips = "synthetic clips" if run.synthetic else "clips"
    return Finding(
        "Accuracy",
        f"{100 * share.value:.1f} %",
        f"After round {last['round']} the global model labels "
        f"{share.show('.1f', scale=100, unit=' %')} of the {run.evaluation_clips} {clips} of the "
        f"{run.config.evaluation.split} split correctly: {against} guessing "
        f"({100 * chance:.1f} %). The interval is over clips; it says nothing "
        "about other seeds.",
    )


def _rate(run: RunTables) -> list[Finding]:
    known = run.rounds.drop_nulls("firing_rate").sort("round")
    if not known.height:
        return []
    first, last = known["firing_rate"][0], known["firing_rate"][-1]
    return [
        Finding(
            "Firing rate",
            f"{last:.3f}",
            f"Spikes a neuron and step of the global model on the {run.config.evaluation.split} "
            f"split after round {known['round'][-1]}; it was {first:.3f} in round "
            f"{known['round'][0]}.",
        )
    ]


def _over_rounds(table: pl.DataFrame, column: str) -> Estimate | None:
    rows = table.select("round", column).drop_nulls()
    return mean_over_rounds(rows[column].to_numpy().astype(float), rows["round"].to_numpy())


def _rate_shift(run: RunTables) -> list[Finding]:
    shift = pl.col("firing_rate_after") - pl.col("firing_rate_shadow")
    rows = run.clients.select("round", shift=shift).drop_nulls()
    mean = _over_rounds(rows, "shift")
    if mean is None:
        return [_too_short("Rate shift")]
    low, high = np.quantile(rows["shift"].to_numpy(), [0.25, 0.75])
    verdict = (
        f"private training {'raised' if mean.value > 0 else 'lowered'} the candidates' rates"
        if mean.excludes_zero
        else "no shift of the candidates' mean rate can be told from zero"
    )
    return [
        Finding(
            "Rate shift",
            number(mean.value, "+.4f"),
            f"Against training without DP from the same model on the same mini-batches, {verdict}: "
            f"mean {mean.show('+.4f')} spikes a neuron and step over "
            f"{rows['round'].n_unique()} rounds; half of the {rows.height} candidates lie between "
            f"{number(low, '+.4f')} and "
            f"{number(high, '+.4f')}.",
        )
    ]


def _ranking(run: RunTables) -> list[Finding]:
    tau = _over_rounds(run.rounds, "kendall_tau_shadow")
    if tau is None:
        return [_too_short("Ranking")]
    flips = _over_rounds(run.rounds, "flip_rate_shadow")
    coordination = run.config.coordination
    chance = 1 - coordination.selected / coordination.candidates
    relation = (
        "agrees with the non-private one better than a random order"
        if tau.low > 0
        else "cannot be told from a random order by its agreement with the non-private one"
        if tau.high >= 0
        else "runs against the non-private one"
    )
    text = (
        f"The ranking of the candidates {relation}: mean Kendall τ {tau.show('.2f')} over rounds."
    )
    if flips is not None:
        text += (
            f" {flips.show('.0f', scale=100, unit=' %')} of the selected clients would not have "
            f"been selected without DP; of a random selection {100 * chance:.0f} % would not."
        )
    return [Finding("Ranking, Kendall τ", number(tau.value, ".2f"), text)]


def _attenuation(run: RunTables) -> list[Finding]:
    ratio = _over_rounds(run.rounds, "attenuation")
    if ratio is None:
        return []
    if ratio.low > 1:
        verdict = "longer than"
    else:
        verdict = "shorter than" if ratio.high < 1 else "not distinguishable in length from"
    cosine = _over_rounds(run.rounds, "cosine_shadow")
    direction = f" Its cosine with it is {cosine.show('.2f')} on average." if cosine else ""
    return [
        Finding(
            "Attenuation",
            number(ratio.value, ".2f"),
            f"The global update is {verdict} the one that the same candidates give without DP: "
            f"ratio of norms {ratio.show('.2f')} over rounds.{direction}",
        )
    ]


def _prediction(run: RunTables) -> list[Finding]:
    try:
        rows = measured_shift(run.clients)
    except LeftOut:
        return []
    if rows.height < 3:
        return []
    sentence = correlation_sentence(rows)
    return [
        Finding(
            "Prediction of the shift",
            sentence.partition("r = ")[2].split(" ")[0].rstrip(",") or "undefined",
            f"First-order prediction against measurement. {sentence}",
        )
    ]


def _privacy(run: RunTables) -> list[Finding]:
    if not run.config.is_private:
        return []
    spent = run.rounds["epsilon_max"].drop_nulls()
    if not spent.len():
        return []
    largest = float(str(spent.max()))
    budget = run.epsilon_budget
    of = "with the noise fixed" if budget is None else f"of the {budget:g} allowed"
    return [
        Finding(
            "Privacy spent",
            f"ε = {largest:.2f}",
            f"By the client that has spent most, {of}, at δ = {run.config.privacy.delta:g}. What "
            "this covers and what not is below.",
        )
    ]


def _energy(run: RunTables) -> list[Finding]:
    known = run.rounds.drop_nulls("energy_nj").sort("round")
    if not known.height:
        return []
    return [
        Finding(
            "Energy",
            f"{known['energy_nj'][-1]:.1f} nJ",
            "Estimate of one inference of the final model from its synaptic operations, not a "
            "measurement on a device.",
        )
    ]


def _too_short(name: str) -> Finding:
    return Finding(
        name, "no interval", "A mean over rounds needs at least two rounds with a value."
    )
