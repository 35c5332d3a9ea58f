"""The panels of a run's figures: what is drawn of which table, against which reference."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments.figures.panel_kinds import by_client, over_rounds, spread_over_rounds
from experiments.figures.style import (
    FOURTH,
    LOOKS,
    MAIN,
    PERCENT,
    SHADOW,
    THIRD,
    finish,
    reference,
    start_at_zero,
)

_ROUND = "round"
_CLIENT = "client (partition)"
_RATE = "spikes / neuron / step"


def accuracy(axes: Axes, rounds: pl.DataFrame, *, labels: int, clips: int) -> None:
    """Draw accuracy on the evaluation split, its standard error over `clips`, and guessing."""
    over_rounds(axes, rounds, "accuracy", bridge=True)
    known = rounds.select("round", "accuracy").drop_nulls().sort("round")
    values = known["accuracy"].to_numpy()
    error = np.sqrt(values * (1 - values) / clips)
    axes.fill_between(
        known["round"].to_numpy(),
        values - error,
        values + error,
        color=MAIN.colour,
        alpha=0.2,
        linewidth=0,
    )
    reference(axes, 1 / labels, "chance")
    top = float((values + error).max(initial=1 / labels))
    axes.set_ylim(0, min(1.02, top * 1.1))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PERCENT)
    finish(axes, "Accuracy of the global model", x=_ROUND, y="accuracy")


def loss(axes: Axes, rounds: pl.DataFrame, *, labels: int) -> None:
    """Draw cross-entropy on the evaluation split and that of a uniform guess, ln(labels)."""
    over_rounds(axes, rounds, "loss", bridge=True)
    reference(axes, math.log(labels), "uniform\nguess")
    start_at_zero(axes)
    finish(axes, "Loss of the global model", x=_ROUND, y="cross-entropy (nats)")


def layer_rates(axes: Axes, layers: pl.DataFrame, *, split: str) -> None:
    """Draw the global model's firing rate in each layer."""
    overall = layers.filter(pl.col("partition").is_null())
    for layer in overall["layer"].unique().sort():
        rows, look = overall.filter(pl.col("layer") == layer), LOOKS[layer % len(LOOKS)]
        over_rounds(axes, rows, "firing_rate", look, label=f"layer {layer}", bridge=True)
    finish(axes, f"Global model, {split} clips", x=_ROUND, y=_RATE)


def candidate_rates(axes: Axes, clients: pl.DataFrame) -> None:
    """Draw the candidates' network rates on their own clips: before and after, and shadow."""
    spread_over_rounds(axes, clients, "firing_rate_before", THIRD, label="before")
    spread_over_rounds(axes, clients, "firing_rate_after", MAIN, label="after training")
    spread_over_rounds(axes, clients, "firing_rate_shadow", SHADOW, label="shadow")
    finish(axes, "Firing rates of candidates, own clips", x=_ROUND, y=_RATE)


def rate_change(axes: Axes, clients: pl.DataFrame) -> None:
    """Draw by how much training moved the candidates' rates, with and without privacy."""
    before = pl.col("firing_rate_before")
    change = clients.with_columns(
        after=pl.col("firing_rate_after") - before, shadow=pl.col("firing_rate_shadow") - before
    )
    spread_over_rounds(axes, change, "after", MAIN, label="after training")
    spread_over_rounds(axes, change, "shadow", SHADOW, label="shadow")
    reference(axes, 0, "no\nchange")
    finish(axes, "Change of rate by local training", x=_ROUND, y=_RATE)


def rate_shift(axes: Axes, layers: pl.DataFrame) -> None:
    """Draw the candidates' rates minus their shadows', layer by layer."""
    shift = pl.col("firing_rate") - pl.col("firing_rate_shadow")
    shifts = layers.select("round", "layer", shift=shift)
    for layer in shifts["layer"].unique().sort():
        rows, look = shifts.filter(pl.col("layer") == layer), LOOKS[layer % len(LOOKS)]
        spread_over_rounds(axes, rows, "shift", look, label=f"layer {layer}")
    reference(axes, 0, "no shift")
    finish(axes, "Rate shift: after training − shadow", x=_ROUND, y=_RATE)


def correlation(axes: Axes, rounds: pl.DataFrame) -> None:
    """Draw rank correlations with the shadow's ranking; 0 is what a random ranking has."""
    over_rounds(axes, rounds, "kendall_tau_shadow", MAIN, label="Kendall τ")
    over_rounds(axes, rounds, "spearman_rho_shadow", SHADOW, label="Spearman ρ")
    reference(axes, 0, "random")
    axes.set_ylim(-1.08, 1.08)
    finish(axes, "Rank correlation with shadow", x=_ROUND, y="correlation")


def overlap(axes: Axes, rounds: pl.DataFrame, *, chance: float) -> None:
    """Draw the overlap with the shadow's selection; `chance` is m/d, a random selection's."""
    kept = rounds.with_columns(kept=1 - pl.col("flip_rate_shadow"))
    over_rounds(axes, kept, "kept", MAIN, label="1 − flip rate")
    over_rounds(axes, rounds, "jaccard_shadow", SHADOW, label="Jaccard")
    over_rounds(axes, rounds, "rbo_shadow", FOURTH, label="RBO")
    reference(axes, chance, "random\n1 − flip")
    axes.set_ylim(-0.04, 1.04)
    finish(axes, "Overlap with shadow", x=_ROUND, y="overlap")


def selection(axes: Axes, clients: pl.DataFrame, *, federation: int) -> None:
    """Draw in how many rounds each of `federation` clients was asked and selected."""
    asked = np.zeros(federation)
    selected = np.zeros(federation)
    for partition, times, chosen in (
        clients.group_by("partition").agg(pl.len(), pl.col("selected").sum()).iter_rows()
    ):
        asked[partition], selected[partition] = times, chosen
    by_client(axes, [asked, selected], ["candidate", "selected"])
    finish(axes, "Rounds as candidate and selected", x=_CLIENT, y="rounds")


def scores(axes: Axes, clients: pl.DataFrame, *, rule: str) -> None:
    """Draw the candidates' scores, of those selected and of the others."""
    for chosen, label, look in ((True, "selected", MAIN), (False, "not selected", SHADOW)):
        rows = clients.filter(pl.col("selected") == chosen)
        spread_over_rounds(axes, rows, "score", look, label=label)
    finish(axes, "Scores of the candidates", x=_ROUND, y=f"score ({rule})")


def epsilon(axes: Axes, rounds: pl.DataFrame, *, budget: float | None) -> None:
    """Draw ε spent, largest and mean over all clients, and the budget."""
    over_rounds(axes, rounds, "epsilon_max", MAIN, label="largest")
    over_rounds(axes, rounds, "epsilon_mean", SHADOW, label="mean of clients")
    if budget is not None:
        reference(axes, budget, "budget")
    start_at_zero(axes)
    finish(axes, "Privacy spent", x=_ROUND, y="ε")


def client_epsilons(
    axes: Axes, clients: pl.DataFrame, *, federation: int, budget: float | None
) -> None:
    """Draw ε that each of `federation` clients has spent by now; 0 for one never asked."""
    spent = np.zeros(federation)
    last = clients.drop_nulls("epsilon").group_by("partition").agg(pl.col("epsilon").max())
    for partition, value in last.select("partition", "epsilon").iter_rows():
        spent[partition] = value
    by_client(axes, [spent], ["_epsilon"])
    if budget is not None:
        reference(axes, budget, "budget")
        axes.set_ylim(0, max(budget, float(spent.max())) * 1.08)
    finish(axes, "Privacy spent by each client", x=_CLIENT, y="ε")


def gradient_norms(axes: Axes, clients: pl.DataFrame, *, clip_norm: float) -> None:
    """Draw the median per-sample gradient norm of each candidate and the clipping bound."""
    spread_over_rounds(axes, clients, "gradient_norm_median")
    reference(axes, clip_norm, f"bound\nC = {clip_norm:g}")
    values = clients["gradient_norm_median"].drop_nulls()
    if values.len() and float(str(values.min())) > 0:
        axes.set_yscale("log")
    finish(axes, "Per-sample gradients", x=_ROUND, y="L2 norm (median)")


def clipping(axes: Axes, clients: pl.DataFrame) -> None:
    """Draw the share of per-sample gradients that were clipped."""
    spread_over_rounds(axes, clients, "clip_fraction")
    axes.set_ylim(-0.04, 1.04)
    axes.yaxis.set_major_formatter(PERCENT)
    finish(axes, "Clipped gradients", x=_ROUND, y="share of gradients")


def update_norm(axes: Axes, rounds: pl.DataFrame) -> None:
    """Draw how far the global model moved in a round."""
    over_rounds(axes, rounds, "update_norm")
    start_at_zero(axes)
    finish(axes, "Global update", x=_ROUND, y="L2 norm")


def effective_clients(axes: Axes, rounds: pl.DataFrame, *, selected: int) -> None:
    """Draw 1/Σw² of the aggregation weights; all `selected` when they are equal."""
    over_rounds(axes, rounds, "effective_clients")
    reference(axes, selected, "equal\nweights")
    axes.set_ylim(0, selected * 1.08)
    finish(axes, "Effective clients", x=_ROUND, y="clients, 1 / Σw²")


def attenuation(axes: Axes, rounds: pl.DataFrame) -> None:
    """Draw the norm of the update over that of the shadow's."""
    over_rounds(axes, rounds, "attenuation")
    reference(axes, 1, "shadow's")
    start_at_zero(axes)
    finish(axes, "Attenuation", x=_ROUND, y="‖update‖ / ‖shadow‖")


def cosine(axes: Axes, rounds: pl.DataFrame) -> None:
    """Draw the cosine between the update and the shadow's."""
    over_rounds(axes, rounds, "cosine_shadow")
    reference(axes, 0, "orthogonal")
    axes.set_ylim(-1.08, 1.08)
    finish(axes, "Direction against shadow", x=_ROUND, y="cosine")
