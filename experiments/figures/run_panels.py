"""The panels of a run's figures: what is drawn of which table, against which reference."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from experiments.figures.chance import overlap_band, tau_band
from experiments.figures.panel_kinds import by_client, over_rounds, spread_over_rounds
from experiments.figures.run_tables import RunTables
from experiments.figures.style import (
    FOURTH,
    LOOKS,
    MAIN,
    PERCENT,
    PLAIN,
    SHADOW,
    THIRD,
    finish,
    reference,
    start_at_zero,
)

_ROUND = "round"
_CLIENT = "client (partition)"
_RATE = "spikes / neuron / step"


def accuracy(run: RunTables, axes: Axes) -> None:
    """Draw accuracy on the evaluation split, its standard error over clips, twin and guessing."""
    twin = run.twin_rounds
    over_rounds(axes, run.rounds, "accuracy", label="" if twin is None else "DP", bridge=True)
    if twin is not None:
        over_rounds(axes, twin, "accuracy", SHADOW, label="the twin, without DP", bridge=True)
    known = run.rounds.select("round", "accuracy").drop_nulls().sort("round")
    values = known["accuracy"].to_numpy()
    error = np.sqrt(values * (1 - values) / run.evaluation_clips)
    band = {"color": MAIN.colour, "alpha": 0.2, "linewidth": 0}
    axes.fill_between(known["round"].to_numpy(), values - error, values + error, **band)
    reference(axes, 1 / run.labels, "chance")
    top = float((values + error).max(initial=max(1 / run.labels, axes.dataLim.y1)))
    axes.set_ylim(0, min(1.02, top * 1.1))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PERCENT)
    finish(axes, "Accuracy of the global model", x=_ROUND, y="accuracy")


def loss(run: RunTables, axes: Axes) -> None:
    """Draw cross-entropy on the evaluation split and that of a uniform guess, ln(labels)."""
    over_rounds(axes, run.rounds, "loss", bridge=True)
    reference(axes, math.log(run.labels), "uniform\nguess")
    start_at_zero(axes)
    finish(axes, "Loss of the global model", x=_ROUND, y="cross-entropy (nats)")


def layer_rates(run: RunTables, axes: Axes) -> None:
    """Draw the global model's firing rate in each layer."""
    overall = run.layers.filter(pl.col("partition").is_null())
    for (layer,), rows in overall.sort("layer").group_by("layer", maintain_order=True):
        look = LOOKS[int(str(layer)) % len(LOOKS)]
        over_rounds(axes, rows, "firing_rate", look, label=f"layer {layer}", bridge=True)
    finish(axes, f"Global model, {run.config.evaluation.split} clips", x=_ROUND, y=_RATE)


def candidate_rates(run: RunTables, axes: Axes) -> None:
    """Draw the candidates' network rates on their own clips: before and after, and shadow."""
    spread_over_rounds(axes, run.clients, "firing_rate_before", THIRD, label="before")
    spread_over_rounds(axes, run.clients, "firing_rate_after", MAIN, label="after training")
    spread_over_rounds(axes, run.clients, "firing_rate_shadow", SHADOW, label="shadow")
    finish(axes, "Firing rates of candidates, own clips", x=_ROUND, y=_RATE)


def rate_change(run: RunTables, axes: Axes) -> None:
    """Draw by how much training moved the candidates' rates, with and without privacy."""
    for name, look, label in (("after", MAIN, "after training"), ("shadow", SHADOW, "shadow")):
        before = pl.col("firing_rate_before")
        if name == "shadow":  # of a run that releases rates `before` has the release's noise
            before = pl.coalesce("firing_rate_before_shadow", before)
        change = pl.col(f"firing_rate_{name}") - before
        table = run.clients.select("round", change.alias(name))
        spread_over_rounds(axes, table, name, look, label=label)
    reference(axes, 0, "no\nchange")
    finish(axes, "Change of rate by local training", x=_ROUND, y=_RATE)


def rate_shift(run: RunTables, axes: Axes) -> None:
    """Draw the candidates' rates minus their shadows', layer by layer."""
    shift = pl.col("firing_rate") - pl.col("firing_rate_shadow")
    shifts = run.layers.select("round", "layer", shift=shift).sort("layer", maintain_order=True)
    for (layer,), rows in shifts.group_by("layer", maintain_order=True):
        look = LOOKS[int(str(layer)) % len(LOOKS)]
        spread_over_rounds(axes, rows, "shift", look, label=f"layer {layer}")
    reference(axes, 0, "no shift")
    finish(axes, "Rate shift: after training − shadow", x=_ROUND, y=_RATE)


def correlation(run: RunTables, axes: Axes) -> None:
    """Draw rank correlations with the shadow's ranking, the floor's, and what random ones have."""
    over_rounds(axes, run.rounds, "kendall_tau_shadow", MAIN, label="Kendall τ")
    over_rounds(axes, run.rounds, "spearman_rho_shadow", SHADOW, label="Spearman ρ")
    over_rounds(axes, run.rounds, "kendall_tau_floor", THIRD, label="τ of the floor")
    count = run.config.coordination.candidates
    bands = {MAIN: tau_band(count), SHADOW: 1.96 / max(count - 1, 1) ** 0.5}  # ρ: by its variance
    for look, band in bands.items():
        axes.axhspan(-band, band, color=look.colour, alpha=0.1, linewidth=0, label="_random")
    reference(axes, 0, "random,\n95 %, in\neach colour")
    axes.set_ylim(-1.08, 1.08)
    finish(axes, "Rank correlation with shadow", x=_ROUND, y="correlation")


def overlap(run: RunTables, axes: Axes) -> None:
    """Draw the overlap with the shadow's selection; a random selection's is m/d."""
    kept = run.rounds.with_columns(kept=1 - pl.col("flip_rate_shadow"))
    over_rounds(axes, kept, "kept", MAIN, label="1 − flip rate")
    over_rounds(axes, run.rounds, "jaccard_shadow", SHADOW, label="Jaccard")
    over_rounds(axes, run.rounds, "rbo_shadow", FOURTH, label="RBO")
    coordination = run.config.coordination
    low, high = overlap_band(coordination.candidates, coordination.selected)
    # of m selected a share s in both is a Jaccard index of s / (2 − s)
    bands = {MAIN: (low, high), SHADOW: (low / (2 - low), high / (2 - high))}
    for look, band in bands.items():
        axes.axhspan(*band, color=look.colour, alpha=0.12, linewidth=0, label="_random")
    reference(
        axes, coordination.selected / coordination.candidates, "random,\n95 %, in\neach colour"
    )
    axes.set_ylim(-0.04, 1.04)
    finish(axes, "Overlap with shadow", x=_ROUND, y="overlap")


def selection(run: RunTables, axes: Axes) -> None:
    """Draw in how many rounds each client of the federation was asked and selected."""
    counts = {"asked": pl.len(), "selected": pl.col("selected").sum()}
    series = [_of_clients(run, values) for values in counts.values()]
    by_client(axes, series, ["candidate", "selected"])
    finish(axes, "Rounds as candidate and selected", x=_CLIENT, y="rounds")


def scores(run: RunTables, axes: Axes) -> None:
    """Draw the candidates' scores, of those selected and of the others."""
    for chosen, label, look in ((True, "selected", MAIN), (False, "not selected", SHADOW)):
        rows = run.clients.filter(pl.col("selected") == chosen)
        spread_over_rounds(axes, rows, "score", look, label=label)
    rule = run.config.coordination.selection
    finish(axes, "Scores of the candidates", x=_ROUND, y=f"score ({rule})")


def epsilon(run: RunTables, axes: Axes) -> None:
    """Draw ε spent, largest and mean over all clients, and the budget."""
    over_rounds(axes, run.rounds, "epsilon_max", MAIN, label="largest")
    over_rounds(axes, run.rounds, "epsilon_mean", SHADOW, label="mean of clients")
    if run.epsilon_budget is not None:
        reference(axes, run.epsilon_budget, "budget")
    start_at_zero(axes)
    finish(axes, "Privacy spent", x=_ROUND, y="ε")


def client_epsilons(run: RunTables, axes: Axes) -> None:
    """Draw ε that each client of the federation has spent by now; 0 for one never asked."""
    spent = _of_clients(run, pl.col("epsilon").max())
    by_client(axes, [spent], ["_epsilon"])
    if (budget := run.epsilon_budget) is not None:
        reference(axes, budget, "budget")
        axes.set_ylim(0, max(budget, float(spent.max())) * 1.08)
    finish(axes, "Privacy spent by each client", x=_CLIENT, y="ε")


def gradient_norms(run: RunTables, axes: Axes) -> None:
    """Draw the median per-sample gradient norm of each candidate and the clipping bound."""
    clip_norm = run.config.privacy.clip_norm
    spread_over_rounds(axes, run.clients, "gradient_norm_median")
    reference(axes, clip_norm, f"bound\nC = {clip_norm:g}")
    values = run.clients["gradient_norm_median"].drop_nulls()
    if values.len() and float(str(values.min())) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(PLAIN)
        axes.yaxis.set_minor_locator(NullLocator())
    finish(axes, "Per-sample gradients", x=_ROUND, y="L2 norm (median)")


def clipping(run: RunTables, axes: Axes) -> None:
    """Draw the share of per-sample gradients that were clipped."""
    spread_over_rounds(axes, run.clients, "clip_fraction")
    axes.set_ylim(-0.04, 1.04)
    axes.yaxis.set_major_formatter(PERCENT)
    finish(axes, "Clipped gradients", x=_ROUND, y="share of gradients")


def update_norm(run: RunTables, axes: Axes) -> None:
    """Draw how far the global model moved in a round."""
    over_rounds(axes, run.rounds, "update_norm")
    start_at_zero(axes)
    finish(axes, "Global update", x=_ROUND, y="L2 norm")


def effective_clients(run: RunTables, axes: Axes) -> None:
    """Draw 1/Σw² of the aggregation weights; all selected when they are equal."""
    selected = run.config.coordination.selected
    over_rounds(axes, run.rounds, "effective_clients")
    reference(axes, selected, "equal\nweights")
    axes.set_ylim(0, selected * 1.08)
    finish(axes, "Effective clients", x=_ROUND, y="clients, 1 / Σw²")


def attenuation(run: RunTables, axes: Axes) -> None:
    """Draw the norm of the update over that of the shadow's."""
    over_rounds(axes, run.rounds, "attenuation")
    reference(axes, 1, "shadow's")
    start_at_zero(axes)
    finish(axes, "Attenuation", x=_ROUND, y="‖update‖ / ‖shadow‖")


def cosine(run: RunTables, axes: Axes) -> None:
    """Draw the cosine between the update and the shadow's."""
    over_rounds(axes, run.rounds, "cosine_shadow")
    reference(axes, 0, "orthogonal")
    axes.set_ylim(-1.08, 1.08)
    finish(axes, "Direction against shadow", x=_ROUND, y="cosine")


def _of_clients(run: RunTables, values: pl.Expr) -> np.ndarray:
    """Return `values` of each client of the federation [N]; 0 for one never asked."""
    table = run.clients.group_by("partition").agg(value=values.cast(pl.Float64)).drop_nulls()
    of_all = np.zeros(run.config.data.clients)
    of_all[table["partition"].to_numpy()] = table["value"].to_numpy()
    return of_all
