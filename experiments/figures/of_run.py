"""The figures of a run: over its rounds, of its clients and layers, its predictions and audit."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from experiments.figures.audit_bounds import audit_bounds
from experiments.figures.catalogue import Entry, LeftOut
from experiments.figures.liars import liars_of_run
from experiments.figures.predicted_shift import predicted_against_measured
from experiments.figures.rank_maps import rank_maps
from experiments.figures.rate_distributions import rate_distributions
from experiments.figures.run_figures import over_rounds
from experiments.figures.run_tables import RunTables
from experiments.figures.selection_shares import labels_held, selection_shares
from experiments.figures.settings import WITHOUT_DP
from experiments.figures.sparsity_memory import shift_against_indicators
from fnl.errors import RunError
from fnl.runtime.table_reading import read_parquet

AUDIT = "audit.parquet"
LAST_ROUNDS = 5
"""Over which distributions are drawn."""

SHIFT = pl.col("firing_rate_after") - pl.col("firing_rate_shadow")
"""Of a candidate's rate: after training, less its shadow's."""


def of_run(run: RunTables) -> list[Entry]:
    """Return the figures that a run may have."""
    last = min(LAST_ROUNDS, run.last_round)
    liars = Entry(
        "liars",
        "How often the clients that lie were selected when they were asked, and the honest ones.",
        lambda: liars_of_run(run),
    )
    return [
        *over_rounds(run),
        *([liars] if run.config.coordination.liars else []),
        Entry(
            "rate-distributions",
            "Distributions of the candidates' firing rates by layer, with and without DP. "
            "Rates that were released are shown with the noise of their release.",
            lambda: rate_distributions(_layer_rates(run, last), of=f"Last {last} rounds."),
        ),
        Entry(
            "ranks",
            "The clients' ranks from round to round.",
            lambda: rank_maps(_rankings(run), selected=run.config.coordination.selected),
        ),
        Entry(
            "selection-shares",
            "How often each client was selected, beside the labels of its clips where clients "
            "differ in them.",
            lambda: selection_shares(run.clients, labels_held(run)),
        ),
        Entry(
            "predicted-shift",
            "The rate shift predicted to first order against the measured one.",
            lambda: predicted_against_measured(run.clients),
        ),
        Entry(
            "sparsity-memory",
            "The candidates' rate shift against indicators of sparsity and memory, round by round.",
            lambda: shift_against_indicators(
                _indicators(run), point="a round, the mean over its candidates", independent=False
            ),
        ),
        Entry(
            "audit",
            "Empirical lower bounds on ε against the claimed ones.",
            lambda: audit_bounds(read_audit(run.directory)),
        ),
    ]


def read_audit(directory: Path) -> pl.DataFrame:
    """Return a directory's `audit.parquet`.

    Raises:
        LeftOut: if there is none that can be read.
    """
    path = directory / AUDIT
    if not path.is_file():
        raise LeftOut(f"no audit was run: there is no {AUDIT}")
    try:
        return read_parquet(path)
    except RunError as error:
        raise LeftOut(f"{AUDIT} cannot be read: {error}") from None


def with_shadows(rows: pl.DataFrame) -> pl.DataFrame:
    """Return candidates' rates, and their shadows' as those without DP."""
    level = {"level": pl.lit(WITHOUT_DP), "level_order": pl.lit(float("inf"))}
    clear = {"firing_rate": "firing_rate_shadow", "rate_noise": pl.lit(None, pl.Float64)}
    return pl.concat([rows, rows.with_columns(**clear, **level)])


def _layer_rates(run: RunTables, last: int) -> pl.DataFrame:
    """Return the candidates' rates by layer over the last rounds, and their shadows'."""
    if not run.config.is_private:
        raise LeftOut("the run is not private: there is nothing to compare with")
    recent = pl.col("round") > run.last_round - last
    noise = run.clients.select("round", "partition", "rate_noise")
    rows = run.layers.filter(pl.col("partition").is_not_null() & recent).join(
        noise, on=["round", "partition"], how="left", maintain_order="left"
    )
    budget = run.epsilon_budget
    level = "with DP" if budget is None else f"ε = {budget:g}"
    return with_shadows(rows.with_columns(level=pl.lit(level), level_order=pl.lit(0.0)))


def _rankings(run: RunTables) -> dict[str, pl.DataFrame]:
    rankings = {"Ranking of the run": run.clients}
    if run.has_shadow:
        shadow = run.clients.with_columns(rank="rank_shadow")
        rankings["Ranking of the shadow, without DP"] = shadow
    return rankings


def _indicators(run: RunTables) -> pl.DataFrame:
    """Return a row a round: the candidates' mean rate shift and the global model's indicators."""
    shifts = run.clients.group_by("round").agg(rate_shift=SHIFT.mean())
    membranes = [c for c in run.layers.columns if c.startswith("membrane_")]
    overall = run.layers.filter(pl.col("partition").is_null())
    layers = overall.group_by("round").agg(pl.col(membranes).mean())
    rounds = run.rounds.drop("rate_shift", *membranes, strict=False)
    return (
        rounds.join(shifts, on="round", how="left", maintain_order="left")
        .join(layers, on="round", how="left", maintain_order="left")
        .with_columns(level=pl.lit("rounds"), level_order=pl.lit(0.0))
    )
