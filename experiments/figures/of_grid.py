"""The figures of a grid."""

from __future__ import annotations

import polars as pl
from matplotlib.figure import Figure

from experiments.figures.accuracy_epsilon import accuracy_against_epsilon
from experiments.figures.audit_bounds import audit_bounds
from experiments.figures.catalogue import Entry
from experiments.figures.grid_tables import GridTables
from experiments.figures.heat_maps import heat_maps
from experiments.figures.labels_held import labels_held
from experiments.figures.left_out import LeftOut
from experiments.figures.looks import WITHOUT_DP
from experiments.figures.of_run import features_of, read_audit
from experiments.figures.pareto import pareto_front
from experiments.figures.predicted_shift import predicted_against_measured
from experiments.figures.privacy_spent import privacy_spent
from experiments.figures.rank_bump import rank_bump
from experiments.figures.rate_distributions import rate_distributions
from experiments.figures.run_tables import read_tables
from experiments.figures.selection_shares import selection_shares
from experiments.figures.sparsity_memory import INDICATORS, shift_against_indicators
from experiments.figures.style import Columns
from fnl.errors import RunError
from fnl.runtime.run_directory import read_run

_MEMBRANES = ["membrane_variance", "membrane_autocorrelation"]


def of_grid(grid: GridTables) -> list[Entry]:
    """Return the figures that a grid may have."""
    about = grid.describe()
    return [
        Entry(
            "accuracy-epsilon",
            "Accuracy against ε with 95 % intervals; dashed: without DP.",
            lambda c: accuracy_against_epsilon(grid.summary, columns=c, about=about),
        ),
        Entry(
            "heat-maps",
            "Rate shift, attenuation, Kendall τ and Jaccard over ε and the clipping bound C.",
            lambda c: heat_maps(grid.summary, columns=c, about=about),
        ),
        Entry(
            "pareto",
            "Accuracy against energy by ε; filled: on the Pareto front of all three.",
            lambda c: pareto_front(grid.summary, columns=c, about=about),
        ),
        Entry(
            "rate-distributions",
            "Distributions of the candidates' firing rates by layer, by privacy budget.",
            lambda c: rate_distributions(
                _layer_rates(grid), columns=c, about=(*about, "Last round of every cell.")
            ),
        ),
        Entry(
            "ranks",
            "The clients' ranks from round to round, at the smallest budget and in its twin.",
            lambda c: rank_bump(_rankings(grid), selected=_selected(grid), columns=c, about=about),
        ),
        Entry(
            "selection-shares",
            "How often each client was selected at the smallest budget, beside its labels.",
            lambda c: _selection(grid, c, about),
        ),
        Entry(
            "predicted-shift",
            "The rate shift predicted to first order against the measured one, by budget.",
            lambda c: predicted_against_measured(_predictions(grid), columns=c, about=about),
        ),
        Entry(
            "sparsity-memory",
            "The rate shift against indicators of sparsity and memory.",
            lambda c: shift_against_indicators(
                indicators(grid), point="a cell's last evaluated round", columns=c, about=about
            ),
        ),
        Entry(
            "privacy-spent",
            "Privacy spent over the rounds by budget.",
            lambda c: privacy_spent(_spent(grid), columns=c, about=about),
        ),
        Entry(
            "audit",
            "Empirical lower bounds on ε against the claimed ones.",
            lambda c: audit_bounds(read_audit(grid.directory), columns=c, about=about),
        ),
    ]


def indicators(grid: GridTables) -> pl.DataFrame:
    """Return a row a private cell: its rate shift and indicators in its last evaluated round.

    The shift is the global model's rate minus its non-private twin's; without twins, the
    candidates' mean shift against their shadows.
    """
    columns = ["round", "firing_rate", *(INDICATORS.keys() - set(_MEMBRANES))]
    last = _last_round(grid.scan("rounds", columns).drop_nulls("firing_rate"))
    layers = grid.scan("layers", ["round", "partition", *_MEMBRANES])
    layers = layers.filter(pl.col("partition").is_null())
    membranes = _last_round(layers).group_by("cell").agg(pl.col(_MEMBRANES).mean())
    twins = grid.cells.select("cell", "twin").join(
        last.select(twin="cell", rate_twin="firing_rate"),
        on="twin",
        how="left",
        maintain_order="left",
    )
    table = (
        last.filter(pl.col("level") != WITHOUT_DP)
        .join(membranes, on="cell", how="left", maintain_order="left")
        .join(twins, on="cell", how="left", maintain_order="left")
        .with_columns(rate_shift=pl.col("firing_rate") - pl.col("rate_twin"))
    )
    if table["rate_shift"].count():
        return table
    names = ["round", "firing_rate_after", "firing_rate_shadow"]
    shift = pl.col("firing_rate_after") - pl.col("firing_rate_shadow")
    shifts = _last_round(grid.scan("clients", names)).group_by("cell").agg(rate_shift=shift.mean())
    return table.drop("rate_shift").join(shifts, on="cell", how="left", maintain_order="left")


def _last_round(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("round") == pl.col("round").max().over("cell"))


def _layer_rates(grid: GridTables) -> pl.DataFrame:
    names = ["round", "layer", "partition", "firing_rate", "firing_rate_shadow"]
    rows = _last_round(grid.scan("layers", names).filter(pl.col("partition").is_not_null()))
    if (rows["level"] == WITHOUT_DP).any():
        return rows
    shadow = rows.with_columns(
        firing_rate="firing_rate_shadow",
        level=pl.lit(WITHOUT_DP),
        level_order=pl.lit(float("inf")),
    )
    return pl.concat([rows, shadow])


def strictest(grid: GridTables) -> dict[str, object]:
    """Return the finished cell of the smallest budget; the first of several."""
    return grid.finished.sort("level_order", maintain_order=True).row(0, named=True)


def _rankings(grid: GridTables) -> dict[str, pl.DataFrame]:
    cell = strictest(grid)
    chosen = [(str(cell["level"]), cell)]
    twins = grid.finished.filter(pl.col("cell").eq_missing(pl.lit(cell["twin"])))
    if twins.height:
        chosen.append((WITHOUT_DP, twins.row(0, named=True)))
    rankings = {}
    for level, row in chosen:
        one = grid.cells.filter(pl.col("cell") == row["cell"])
        rankings[f"{level}, seed {row['seed']}"] = grid.scan(
            "clients", ["round", "partition", "rank"], one
        )
    return rankings


def _selected(grid: GridTables) -> int:
    """Return how many clients the strictest cell selected in its last round."""
    rows = _last_round(_of_strictest(grid, ["round", "selected"]))
    return int(rows["selected"].sum())


def _selection(grid: GridTables, columns: Columns, about: tuple[str, ...]) -> Figure:
    cell = strictest(grid)
    directory = grid.directory / str(cell["run"])
    try:
        run, features = read_tables(directory), features_of(read_run(directory))
    except RunError as error:
        raise LeftOut(f"the cell's run cannot be read: {error}") from None
    note = f"Here: {cell['level']}, seed {cell['seed']}."
    return selection_shares(
        run.clients, labels_held(run.config, features), columns=columns, about=(*about, note)
    )


def _of_strictest(grid: GridTables, columns: list[str]) -> pl.DataFrame:
    one = grid.cells.filter(pl.col("cell") == strictest(grid)["cell"])
    return grid.scan("clients", columns, one)


def _predictions(grid: GridTables) -> pl.DataFrame:
    names = ["round", "partition", "firing_rate_after", "firing_rate_shadow"]
    return grid.scan("clients", [*names, "predicted_rate_shift", "predicted_rate_shift_sd"])


def _spent(grid: GridTables) -> pl.DataFrame:
    rows = grid.scan("rounds", ["round", "epsilon_max", "epsilon_mean"])
    if "privacy.epsilon" in grid.axes:
        rows = rows.with_columns(budget="privacy.epsilon")
    return rows
