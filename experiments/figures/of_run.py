"""The figures of a run, beyond those over its rounds in `experiments.figures.run_figures`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from experiments.figures import run_figures
from experiments.figures.audit_bounds import audit_bounds
from experiments.figures.catalogue import Entry
from experiments.figures.labels_held import labels_held
from experiments.figures.left_out import LeftOut
from experiments.figures.looks import WITHOUT_DP
from experiments.figures.predicted_shift import predicted_against_measured
from experiments.figures.rank_bump import rank_bump
from experiments.figures.rate_distributions import rate_distributions
from experiments.figures.run_tables import RunTables
from experiments.figures.selection_shares import selection_shares
from experiments.figures.sparsity_memory import shift_against_indicators

AUDIT = "audit.parquet"
LAST_ROUNDS = 5
"""Over which distributions are drawn."""


def over_rounds(run: RunTables) -> list[Entry]:
    """Return the figures of `experiments.figures.run_figures` that this run has."""
    draw = run_figures
    entries = [
        Entry("summary", "The run at a glance.", lambda c: draw.summary_figure(run, columns=c)),
        Entry(
            "accuracy",
            "Accuracy and loss of the global model over the rounds, against guessing.",
            lambda c: draw.accuracy_figure(run, columns=c),
        ),
        Entry(
            "firing-rates",
            "Firing rates by layer, and of the candidates before and after training.",
            lambda c: draw.firing_rates_figure(run, columns=c),
        ),
    ]
    if run.has_shadow:
        entries.append(
            Entry(
                "ranking",
                "How far the ranking of the candidates agrees with the non-private one.",
                lambda c: draw.ranking_figure(run, columns=c),
            )
        )
    else:
        entries.append(
            Entry(
                "selection",
                "Who was asked and who selected.",
                lambda c: draw.selection_figure(run, columns=c),
            )
        )
    if run.config.is_private:
        entries.append(
            Entry(
                "privacy",
                "Privacy spent over the rounds and by each client, and what clipping did.",
                lambda c: draw.privacy_figure(run, columns=c),
            )
        )
    entries.append(
        Entry(
            "aggregation",
            "The global update and its weights; with shadows, what is left of the shadow's.",
            lambda c: draw.aggregation_figure(run, columns=c),
        )
    )
    return entries


def of_clients(run: RunTables, directory: Path, features: str) -> list[Entry]:
    """Return the figures of a run's clients, layers, predictions and audit.

    Args:
        run: its tables.
        directory: the run directory.
        features: the run's entry `corpus.features`.
    """
    about = run.describe()
    selected = run.config.coordination.selected
    return [
        Entry(
            "rate-distributions",
            "Distributions of the candidates' firing rates by layer, with and without DP.",
            lambda c: rate_distributions(
                _layer_rates(run), columns=c, about=(*about, f"Last {_last(run)} rounds.")
            ),
        ),
        Entry(
            "ranks",
            "The clients' ranks from round to round.",
            lambda c: rank_bump(_rankings(run), selected=selected, columns=c, about=about),
        ),
        Entry(
            "selection-shares",
            "How often each client was selected, beside the labels of its clips.",
            lambda c: selection_shares(
                run.clients, labels_held(run.config, features), columns=c, about=about
            ),
        ),
        Entry(
            "predicted-shift",
            "The rate shift predicted to first order against the measured one.",
            lambda c: predicted_against_measured(run.clients, columns=c, about=about),
        ),
        Entry(
            "sparsity-memory",
            "The candidates' rate shift against indicators of sparsity and memory, round by round.",
            lambda c: shift_against_indicators(
                _indicators(run),
                point="a round, the mean over its candidates",
                columns=c,
                about=about,
            ),
        ),
        Entry(
            "audit",
            "Empirical lower bounds on ε against the claimed ones.",
            lambda c: audit_bounds(read_audit(directory), columns=c, about=about),
        ),
    ]


def features_of(record: Mapping[str, object]) -> str:
    """Return the entry `corpus.features` of a run's record, empty where there is none."""
    corpus = record.get("corpus")
    return str(corpus.get("features", "")) if isinstance(corpus, Mapping) else ""


def read_audit(directory: Path) -> pl.DataFrame:
    """Return a directory's `audit.parquet`.

    Raises:
        LeftOut: if there is none that can be read.
    """
    path = directory / AUDIT
    if not path.is_file():
        raise LeftOut(f"no audit was run: there is no {AUDIT}")
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LeftOut(f"{AUDIT} cannot be read: {str(error).splitlines()[0]}") from None


def _last(run: RunTables) -> int:
    return min(LAST_ROUNDS, int(str(run.rounds["round"].max())))


def _layer_rates(run: RunTables) -> pl.DataFrame:
    """Return the candidates' rates by layer over the last rounds, and their shadows'."""
    if not run.config.is_private:
        raise LeftOut("the run is not private: there is nothing to compare with")
    first = int(str(run.rounds["round"].max())) - _last(run)
    rows = run.layers.filter(pl.col("partition").is_not_null() & (pl.col("round") > first))
    budget = run.epsilon_budget
    level = "with DP" if budget is None else f"ε = {budget:g}"
    private = rows.select("layer", "firing_rate", level=pl.lit(level), level_order=pl.lit(0.0))
    shadow = rows.select(
        "layer",
        firing_rate="firing_rate_shadow",
        level=pl.lit(WITHOUT_DP),
        level_order=pl.lit(float("inf")),
    )
    return pl.concat([private, shadow])


def _rankings(run: RunTables) -> dict[str, pl.DataFrame]:
    columns = ["round", "partition"]
    rankings = {"Ranking of the run": run.clients.select(*columns, "rank")}
    if run.has_shadow:
        shadow = run.clients.select(*columns, rank="rank_shadow")
        rankings["Ranking of the shadow, without DP"] = shadow
    return rankings


def _indicators(run: RunTables) -> pl.DataFrame:
    """Return a row a round: the candidates' mean rate shift and the global model's indicators."""
    shift = pl.col("firing_rate_after") - pl.col("firing_rate_shadow")
    shifts = run.clients.group_by("round").agg(rate_shift=shift.mean())
    membranes = [c for c in run.layers.columns if c.startswith("membrane_")]
    layers = (
        run.layers.filter(pl.col("partition").is_null())
        .group_by("round")
        .agg(pl.col(membranes).mean())
    )
    rounds = run.rounds.drop("rate_shift", *membranes, strict=False)
    return (
        rounds.join(shifts, on="round", how="left", maintain_order="left")
        .join(layers, on="round", how="left", maintain_order="left")
        .with_columns(level=pl.lit("rounds"), level_order=pl.lit(0.0))
    )
