"""What clients gain that lie, and what it costs: `coordination.liars` of a run or a grid.

Who lies is known from the configuration of a simulation. How often a liar is selected stands beside
the honest clients, the share of a random selection and `coordination.max-share`; what it does to
accuracy is the difference from the run without a liar, where a grid has it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from experiments.figures.catalogue import LeftOut
from experiments.figures.grid_tables import GridTables
from experiments.figures.run_tables import RunTables, read_tables
from experiments.figures.settings import short, show
from experiments.figures.style import MAIN, PERCENT, SHADOW, Sheet, finish
from experiments.grid.statistics import FEWEST, holm, paired_p_value, t_interval
from fnl.errors import RunError

LIARS, CAP = "coordination.liars", "coordination.max-share"
MOST_LINES = 36
"""Clients or settings that a figure has room for; the table has all."""
_NO_CAP = 1.0
_LETTERS = 18
"""Of a setting's name, a line of it: more, and a narrow figure has no room for the panel."""
_LINE_INCHES = 0.105
_GAP_INCHES = 0.06
"""Of a line of a setting's name, and between two settings."""
_DASHED, _DOTTED = (0, (6, 2)), (0, (1, 1.2))


def shares_of(clients: pl.DataFrame, liars: Sequence[int]) -> pl.DataFrame:
    """Return a row a client that was asked, the most often selected first.

    Columns: `partition`, whether it `lies`, rounds in which it was `asked` and `selected`, its
    `share`, the latter of the former, and its mean `weight` in the aggregates that it was part of.

    Args:
        clients: a run's `clients.parquet`.
        liars: partitions that lie.
    """
    taken = pl.col("selected")
    found = clients.group_by("partition").agg(
        pl.len().alias("asked"),
        taken.sum(),
        taken.mean().alias("share"),
        pl.col("weight").filter(taken).mean(),
    )
    lies = pl.col("partition").is_in(liars).alias("lies")
    found = found.select("partition", lies, pl.exclude("partition"))
    return found.sort(["share", "partition"], descending=[True, False])


def liars_of_run(run: RunTables) -> Sheet:
    """Draw each client's share of the rounds that it was asked in.

    Raises:
        LeftOut: if no liar has been asked.
    """
    config = run.config.coordination
    rows = shares_of(run.clients, config.lying)
    if not rows["lies"].any():
        raise LeftOut("no client that lies has been asked yet")
    chance = float(run.clients.select(pl.col("selected").mean()).item())
    note = "Dashed: what to expect under random selection."
    note += " Dotted: coordination.max-share." if config.max_share < _NO_CAP else " No cap is set."
    title = "How often the clients that lie are selected, and the honest ones"
    shown = rows.filter("lies").vstack(rows.filter(~pl.col("lies"))).head(MOST_LINES)
    shown = shown.sort(["share", "partition"], descending=[True, False])
    inches = float(np.clip(0.14 * shown.height + 0.9, 2.2, 6.5))
    return Sheet(title, [partial(_bars, shown, chance, config.max_share)], [note], inches)


def lying_cells(grid: GridTables) -> pl.DataFrame:
    """Return `cell`, `liars` and `cap` of the finished cells: who lies, the max-share if any."""
    finished = grid.finished
    fixed = _fixed(grid)
    liars, cap = (pl.col(key) if key in grid.axes else pl.lit(fixed[key]) for key in (LIARS, CAP))
    return finished.select("cell", liars=liars, cap=pl.when(cap < _NO_CAP).then(cap))


def damage(grid: GridTables) -> pl.DataFrame:
    """Return a row a setting in which clients lie, in the order of the cells; none if nobody does.

    Columns: the varied keys but the seed; `liars` and `seeds`; `share` of the liars and its `half`
    interval over seeds, `share_honest` of those beside them, `share_before` of the same clients
    where they do not lie, `chance` and `cap`; `accuracy` after the last round, `accuracy_before`
    where nobody lies, their paired `difference` with its `difference_half`, `p` of the paired
    t-test and `p_adjusted`, after Holm. What the grid has no runs for is null.
    """
    keys = [key for key in grid.axes if key != LIARS]
    cells = grid.finished.select("cell", "seed", *keys)
    cells = cells.join(lying_cells(grid), on="cell", maintain_order="left")
    honest = cells.filter(pl.col("liars") == "").select("seed", *keys, partner="cell")
    runs = cells.filter(pl.col("liars") != "").join(
        honest, on=["seed", *keys], how="left", nulls_equal=True, maintain_order="left"
    )
    runs = runs.join(_shares(grid, runs), on="cell", how="left", maintain_order="left")
    accuracy = _accuracy(grid)
    before = accuracy.select(partner="cell", accuracy_before="accuracy")
    runs = runs.join(accuracy, on="cell", how="left", maintain_order="left")
    runs = runs.join(before, on="partner", how="left", maintain_order="left")
    groups = runs.group_by([*keys, "liars"], maintain_order=True)
    rows = [
        dict(zip([*keys, "liars"], values, strict=True)) | _setting(part) for values, part in groups
    ]
    table = pl.DataFrame(rows, infer_schema_length=None)
    if not rows:
        return table
    return table.with_columns(p_adjusted=pl.Series(holm(table["p"].cast(pl.Float64).to_numpy())))


def liars_of_grid(grid: GridTables) -> Sheet:
    """Draw, a line a setting, how often liars are selected and what they do to accuracy.

    Raises:
        LeftOut: if nobody lies.
    """
    table = damage(grid)
    if not table.height:
        raise LeftOut("no client lies in any finished cell")
    shown = table.head(MOST_LINES)
    names = names_of(shown)
    panels = [partial(_gain, shown, names)]
    if shown["difference"].count():
        panels.append(partial(_loss, shown, names))
    notes = [
        "A line a setting: means over seeds, lines: 95 % interval. Upright: random; fork: "
        "coordination.max-share."
    ]
    if table.height > shown.height:
        notes.append(f"{table.height - shown.height} further settings are in the table.")
    most_lines = max(_on_lines(name).count("\n") + 1 for name in names)
    row = max(0.24, _LINE_INCHES * most_lines + _GAP_INCHES)
    inches = max(2.0, row * shown.height + 0.9)
    return Sheet("What clients gain that lie, and what it costs", panels, notes, inches)


def names_of(table: pl.DataFrame) -> list[str]:
    """Return what tells the settings of `damage` apart, in words."""
    varied = [name for name in table.columns if "." in name and table[name].n_unique() > 1]
    rows = table.select(varied).iter_rows(named=True)
    return [", ".join(_name(*item) for item in row.items()) or "all settings" for row in rows]


def _fixed(grid: GridTables) -> Mapping[str, object]:
    """Return the keys of the first finished cell; nobody lies where its run cannot be read."""
    try:
        return read_tables(grid.directory / grid.finished["run"][0]).config.flat()
    except RunError:
        return {LIARS: "", CAP: _NO_CAP}


def _name(key: str, value: object) -> str:
    return value if isinstance(value, str) else f"{short(key)}\N{NO-BREAK SPACE}{show(value)}"


def _accuracy(grid: GridTables) -> pl.DataFrame:
    rounds = grid.scan("rounds", ["round", "accuracy"]).drop_nulls("accuracy").sort("round")
    return rounds.group_by("cell").agg(pl.col("accuracy").last())


def _shares(grid: GridTables, runs: pl.DataFrame) -> pl.DataFrame:
    """Return `share`, `share_honest`, `chance` and `share_before` of each cell of `runs`."""
    clients = grid.scan("clients", ["partition", "selected"])
    clients = clients.select("cell", pl.col("partition").cast(pl.Int64), "selected")
    liars = pl.col("liars").str.split(",").cast(pl.List(pl.Int64))
    runs = runs.select("cell", "partner", liars)
    taken, lies = pl.col("selected"), pl.col("partition").is_in(pl.col("liars"))
    beside = clients.join(runs, on="cell").group_by("cell")
    now = beside.agg(
        taken.filter(lies).mean().alias("share"),
        taken.filter(~lies).mean().alias("share_honest"),
        taken.mean().alias("chance"),
    )
    partners = clients.rename({"cell": "partner"})
    before = runs.join(partners, on="partner").filter(lies).group_by("cell")
    return now.join(before.agg(taken.mean().alias("share_before")), on="cell", how="left")


def _setting(runs: pl.DataFrame) -> dict[str, float | int | None]:
    differences = (runs["accuracy"] - runs["accuracy_before"]).drop_nulls().to_numpy()
    share, half = _interval(runs["share"].drop_nulls().to_numpy())
    difference, difference_half = _interval(differences)
    means = ("share_honest", "share_before", "chance", "cap", "accuracy", "accuracy_before")
    return {
        "seeds": runs.height,
        "share": share,
        "half": half,
        **runs.select(pl.col(means).mean()).row(0, named=True),
        "difference": difference,
        "difference_half": difference_half,
        "p": paired_p_value(differences) if len(differences) else None,
    }


def _interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """Return mean and half interval, None for what there is too little for."""
    if not len(values):
        return None, None
    mean, half = t_interval(values)
    return mean, half if len(values) >= FEWEST else None


def _bars(rows: pl.DataFrame, chance: float, cap: float, axes: Axes) -> None:
    places = np.arange(rows.height)
    for lies, look, name in ((True, SHADOW, "lies"), (False, MAIN, "honest")):
        of = (rows["lies"] == lies).to_numpy()
        axes.barh(
            places[of], rows["share"].to_numpy()[of], height=0.8, color=look.colour, label=name,
            hatch="////" if lies else None, edgecolor="white", linewidth=0,
        )  # fmt: skip
    for place, asked in enumerate(rows["asked"]):
        share = float(rows["share"][place])
        axes.text(share + 0.02, place, f"of {asked}", va="center", size=6, color="0.35")
    axes.axvline(chance, color="0.2", linewidth=0.9, linestyle=_DASHED)
    if cap < _NO_CAP:
        axes.axvline(cap, color="0.2", linewidth=1.2, linestyle=_DOTTED)
    _lines(axes, [str(partition) for partition in rows["partition"]])
    axes.set_xlim(0, 1.15)
    axes.set_xticks([0, 0.5, 1])
    axes.xaxis.set_major_formatter(PERCENT)
    finish(
        axes,
        "Selected when asked",
        x="share of the rounds in which it was asked",
        y="client (partition)",
    )


def _gain(table: pl.DataFrame, names: Sequence[str], axes: Axes) -> None:
    columns = table.select("chance", "cap", "share_honest", "share", "half").cast(pl.Float64)
    of = {name: columns[name].to_numpy() for name in columns.columns}
    places = np.arange(table.height)
    for name, marker in (("chance", "|"), ("cap", "4")):
        axes.plot(of[name], places, marker, color="0.2", label="_" + name, markersize=7)
    for name, look, label in (("share_honest", MAIN, "honest"), ("share", SHADOW, "lies")):
        axes.errorbar(
            of[name], places, xerr=of["half"] if name == "share" else None, linestyle="",
            marker=look.marker, color=look.colour, elinewidth=1.0, label=label,
        )  # fmt: skip
    _lines(axes, names)
    axes.set_xlim(-0.03, 1.03)
    axes.xaxis.set_major_formatter(PERCENT)
    finish(axes, "Selected when asked", x="share of the rounds", y="")


def _loss(table: pl.DataFrame, names: Sequence[str], axes: Axes) -> None:
    values = 100 * table["difference"].cast(pl.Float64).to_numpy()
    halves = 100 * table["difference_half"].cast(pl.Float64).to_numpy()
    axes.axvline(0, color="0.2", linewidth=0.9)
    axes.errorbar(
        values, np.arange(table.height), xerr=halves, linestyle="", elinewidth=1.0,
        marker=SHADOW.marker, color=SHADOW.colour,
    )  # fmt: skip
    _lines(axes, names)
    finish(axes, "Accuracy", x="points, from no liar", y="")


def _on_lines(name: str) -> str:
    return textwrap.fill(name, _LETTERS)


def _lines(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(np.arange(len(names)), [_on_lines(name) for name in names], size=6)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
