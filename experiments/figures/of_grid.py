"""The figures of a grid."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from experiments.figures.accuracy_epsilon import accuracy_against_epsilon
from experiments.figures.audit_bounds import audit_bounds
from experiments.figures.catalogue import Entry, LeftOut
from experiments.figures.grid_tables import GridTables
from experiments.figures.heat_maps import heat_maps
from experiments.figures.learning_curves import learning_curves
from experiments.figures.liars import liars_of_grid, lying_cells
from experiments.figures.of_run import SHIFT, read_audit, with_shadows
from experiments.figures.pareto import pareto_front
from experiments.figures.predicted_shift import predicted_against_measured
from experiments.figures.privacy_spent import privacy_spent
from experiments.figures.rank_maps import rank_maps
from experiments.figures.rate_distributions import rate_distributions
from experiments.figures.run_tables import read_tables
from experiments.figures.selection_shares import labels_held, selection_shares
from experiments.figures.settings import LEVEL_KEYS, WITHOUT_DP, short, show
from experiments.figures.sparsity_memory import INDICATORS, shift_against_indicators
from experiments.figures.style import Sheet
from fnl.errors import RunError
from fnl.fidelity.rules import UNRANKED

_MEMBRANES = ["membrane_variance", "membrane_autocorrelation"]

_SELECTION = "coordination.selection"


def of_grid(grid: GridTables) -> list[Entry]:
    """Return the figures that a grid may have."""
    liars = Entry(
        "liars",
        "How often clients that lie are selected by setting, beside the honest ones and a random "
        "selection, and how much accuracy that costs against the same runs without a liar.",
        lambda: liars_of_grid(grid),
    )
    return [
        *([liars] if (lying_cells(grid)["liars"] != "").any() else []),
        Entry(
            "accuracy-epsilon",
            "Accuracy against the privacy budget ε, mean and 95 % interval over seeds; dashed: the "
            "same run without differential privacy (DP). Panels share their scale.",
            lambda: accuracy_against_epsilon(grid.summary, chance=_chance(grid)),
        ),
        Entry(
            "learning-curves",
            "Accuracy of the global model over the rounds, a line a privacy budget, mean and 95 % "
            "interval over seeds.",
            lambda: learning_curves(_accuracies(grid), chance=_chance(grid)),
        ),
        Entry(
            "heat-maps",
            "Over ε and the clipping bound C: rate shift (firing rate less that without DP), "
            "attenuation (length of the private update over that of the shadow, the update of the "
            "same clients without DP; of 1 it may point elsewhere all the same, for noise has "
            "length too: the metric cosine_shadow of the tables has the direction), Kendall τ and "
            "Jaccard (agreement of the clients' ranking, and of who is selected, with the "
            "shadow's).",
            lambda: heat_maps(grid.summary, _asked(grid)),
        ),
        Entry(
            "pareto",
            "Accuracy against energy by ε; filled: on the Pareto front, which no other "
            "configuration beats in accuracy, energy or ε without losing in another.",
            lambda: pareto_front(grid.summary),
        ),
        Entry(
            "rate-distributions",
            "Distributions of the candidates' firing rates by layer, by privacy budget. Rates that "
            "were released are shown with the noise of their release.",
            lambda: rate_distributions(_layer_rates(grid), of="Last round of every cell."),
        ),
        Entry(
            "ranks",
            "The clients' ranks from round to round, at the smallest budget and in its twin, the "
            "same run without DP.",
            lambda: _ranks(grid),
        ),
        Entry(
            "selection-shares",
            "How often each client was selected at the smallest budget, beside its labels where "
            "clients differ in them.",
            lambda: _selection(grid),
        ),
        Entry(
            "predicted-shift",
            "The rate shift (firing rate after private training less the shadow's) predicted to "
            "first order against the measured one, by budget.",
            lambda: predicted_against_measured(_predictions(grid)),
        ),
        Entry(
            "sparsity-memory",
            "The rate shift (firing rate less that without DP) against indicators of sparsity and "
            "memory: shares of silent and saturated neurons, the membranes' variance and their "
            "autocorrelation from step to step, bytes.",
            lambda: shift_against_indicators(
                indicators(grid), point="a cell's last evaluated round", independent=True
            ),
        ),
        Entry(
            "privacy-spent",
            "Privacy spent over the rounds by budget.",
            lambda: privacy_spent(_spent(grid)),
        ),
        Entry(
            "audit",
            "Empirical lower bounds on ε against the claimed ones.",
            lambda: audit_bounds(read_audit(grid.directory)),
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
    layers = _last_round(layers.filter(pl.col("partition").is_null()))
    membranes = layers.group_by("cell").agg(pl.col(_MEMBRANES).mean())
    twins = grid.cells.select("cell", "twin").join(
        last.select(twin="cell", rate_twin="firing_rate"), on="twin", maintain_order="left"
    )
    shifts = twins.join(last, on="cell", maintain_order="left").select(
        "cell", rate_shift=pl.col("firing_rate") - pl.col("rate_twin")
    )
    if shifts.is_empty():
        names = ["round", "firing_rate_after", "firing_rate_shadow"]
        clients = _last_round(grid.scan("clients", names))
        shifts = clients.group_by("cell").agg(rate_shift=SHIFT.mean())
    private = last.filter(pl.col("level") != WITHOUT_DP)
    for table in (membranes, shifts):
        private = private.join(table, on="cell", how="left", maintain_order="left")
    return private


def strictest(grid: GridTables) -> dict[str, object]:
    """Return the finished cell of the smallest budget whose rule ranks; the first of several."""
    rows = grid.finished.sort("level_order", maintain_order=True)
    if _SELECTION in rows.columns:
        ranked = rows.filter(~pl.col(_SELECTION).is_in(UNRANKED))
        rows = ranked if ranked.height else rows
    return rows.row(0, named=True)


def _accuracies(grid: GridTables) -> pl.DataFrame:
    """Return the accuracy in every evaluated round of the finished cells, with their settings."""
    return grid.scan("rounds", ["round", "accuracy"]).drop_nulls("accuracy")


def _chance(grid: GridTables) -> float | None:
    """Return the accuracy of guessing; None where cells have other labels, or do not say."""
    if {"data.words", "data.corpus"} & set(grid.axes):
        return None
    try:
        return 1 / read_tables(grid.directory / str(strictest(grid)["run"])).labels
    except RunError:
        return None


def _asked(grid: GridTables) -> tuple[int, int] | None:
    """Return candidates and selected of the grid's runs; None where they vary."""
    if {"coordination.candidates", "coordination.selected", "data.clients"} & set(grid.axes):
        return None
    try:
        coordination = read_tables(grid.directory / str(strictest(grid)["run"])).config.coordination
    except RunError:
        return None
    return coordination.candidates, coordination.selected


def _last_round(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("round") == pl.col("round").max().over("cell"))


def _layer_rates(grid: GridTables) -> pl.DataFrame:
    names = ["round", "layer", "partition", "firing_rate", "firing_rate_shadow"]
    keys = ["cell", "round", "partition"]
    noise = grid.scan("clients", ["round", "partition", "rate_noise"]).select(*keys, "rate_noise")
    rows = _last_round(grid.scan("layers", names).filter(pl.col("partition").is_not_null())).join(
        noise, on=keys, how="left", maintain_order="left"
    )
    return rows if (rows["level"] == WITHOUT_DP).any() else with_shadows(rows)


def _ranks(grid: GridTables) -> Sheet:
    cell = strictest(grid)
    chosen = grid.finished.filter(pl.col("cell").is_in([cell["cell"], cell["twin"]]))
    names = ["round", "partition", "rank", "selected"]
    tables = {
        f"{row['level']}, {_settings_of(grid, row)}seed {row['seed']}": grid.scan(
            "clients", names, chosen.filter(cell=row["cell"])
        )
        for row in chosen.sort("level_order", maintain_order=True).iter_rows(named=True)
    }
    last = _last_round(next(iter(tables.values())))
    return rank_maps(tables, selected=int(last["selected"].sum()))


def _settings_of(grid: GridTables, row: Mapping[str, object]) -> str:
    """Return what else a cell's settings are, for a title."""
    keys = [key for key in grid.axes if key not in LEVEL_KEYS and row[key] is not None]
    return "".join(f"{short(key)} {show(row[key])}, " for key in keys)


def _selection(grid: GridTables) -> Sheet:
    cell = strictest(grid)
    try:
        run = read_tables(grid.directory / str(cell["run"]))
    except RunError as error:
        raise LeftOut(f"the cell's run cannot be read: {error}") from None
    note = f"Here: {cell['level']}, {_settings_of(grid, cell)}seed {cell['seed']}."
    return selection_shares(run.clients, labels_held(run), note)


def _predictions(grid: GridTables) -> pl.DataFrame:
    names = ["round", "partition", "firing_rate_after", "firing_rate_shadow"]
    return grid.scan("clients", [*names, "predicted_rate_shift", "predicted_rate_shift_sd"])


def _spent(grid: GridTables) -> pl.DataFrame:
    rows = grid.scan("rounds", ["round", "epsilon_max", "epsilon_mean"])
    if "privacy.epsilon" in grid.axes:
        rows = rows.with_columns(budget="privacy.epsilon")
    return rows
