"""The section on clients that lie: what they gain, what bounds it, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from experiments.figures.catalogue import Drawn
from experiments.figures.grid_tables import GridTables
from experiments.figures.liars import LIARS, damage, names_of, shares_of
from experiments.figures.run_tables import RunTables
from experiments.report.intervals import number
from experiments.report.page import Section
from experiments.report.tables import table_of

SECTION = "liars"
"""Of the page, and the figure in it."""
_TITLE = "Clients that lie"
_WHAT = (
    "A liar reports what the selection rule likes best and sends its update with the sign turned, "
    "at its honest length. Who lies is known in a simulation alone: coordination.liars."
)
_SIGNIFICANT = 0.05
_NAMES = {
    "share_interval": "its 95 % interval",
    "share_honest": "share of the honest",
    "share_before": "share of the same, honest",
    "cap": "max-share",
    "accuracy_before": "accuracy without",
    "difference_interval": "its 95 % interval",
    "p_adjusted": "p, adjusted",
}


def section_of_run(run: RunTables, figures: Sequence[Drawn]) -> list[Section]:
    """Return the section of a run in which clients lie; of another nothing."""
    settings = run.config.coordination
    if not settings.lying:
        return []
    rows = shares_of(run.clients, settings.lying)
    cap = "No cap is set: coordination.max-share bounds it, whatever is reported."
    if settings.max_share < 1:
        cap = f"coordination.max-share bounds it at {_percent(settings.max_share)}."
    said = f"Partition {settings.liars} lies, and was never asked."
    if rows["lies"].any():
        said = (
            f"Partition {settings.liars} lies and is selected in {_share(rows.filter('lies'))} of "
            f"the rounds in which it is asked, the honest clients in "
            f"{_share(rows.filter(~pl.col('lies')))}; random selection takes {_share(rows)}. {cap}"
        )
    damaged = (
        "What it does to accuracy is the difference from the same run without it: a grid that "
        f'varies {LIARS} = ["", "{settings.liars}"] says it.'
    )
    table = table_of(rows, "Selection by client", "A row a client that was asked.")
    return [Section(SECTION, _TITLE, [_WHAT, said, damaged], figures, [table])]


def section_of_grid(grid: GridTables, figures: Sequence[Drawn]) -> list[Section]:
    """Return the section of a grid in which clients lie; of another nothing."""
    found = damage(grid)
    if not found.height:
        return []
    rows = found.with_columns(
        _ends("share", "half").alias("share_interval"),
        _ends("difference", "difference_half").alias("difference_interval"),
    )
    keys = [name for name in rows.columns if "." in name and rows[name].n_unique() > 1]
    columns = (
        "liars", "seeds", "share", "share_interval", "share_honest", "share_before", "chance",
        "cap", "accuracy", "accuracy_before", "difference", "difference_interval", "p_adjusted",
    )  # fmt: skip
    table = table_of(
        rows.select(*keys, *columns),
        "Liars by setting",
        "A row a setting, means over seeds. Shares are of the rounds in which a client is asked; "
        "difference: of accuracy, from the same run and seed in which nobody lies.",
        _NAMES,
    )
    return [Section(SECTION, _TITLE, [_WHAT, _gain(found), _loss(found)], figures, [table])]


def _gain(found: pl.DataFrame) -> str:
    """Say how often liars are selected, without a cap and under it."""
    sentences = []
    for words, rows in (
        ("Without a cap", found.filter(pl.col("cap").is_null())),
        ("Under coordination.max-share", found.drop_nulls("cap")),
    ):
        known = rows.drop_nulls("share")
        if known.height:
            lies, honest, chance = (
                _range(known[name]) for name in ("share", "share_honest", "chance")
            )
            sentences.append(
                f"{words} liars are selected in {lies} of the rounds in which they are asked, "
                f"honest clients in {honest}; random selection takes {chance}."
            )
    return " ".join(sentences)


def _loss(found: pl.DataFrame) -> str:
    """Say what liars do to accuracy, and where that is beyond chance."""
    known = found.drop_nulls("difference")
    if not known.height:
        return f'What they do to accuracy is not known: vary {LIARS} = ["", …].'
    worst = known.sort("difference").head(1)
    half = worst["difference_half"][0]
    interval = "" if half is None else f" ± {100 * half:.1f}"
    tested = known.drop_nulls("p_adjusted")
    beyond = tested.filter(pl.col("p_adjusted") < _SIGNIFICANT).height
    places = names_of(known)
    place = places[int(known["difference"].to_numpy().argmin())]
    return (
        f"Against the same runs without a liar accuracy changes by "
        f"{number(100 * worst['difference'][0], '+.1f')}{interval} points at worst ({place}); "
        f"{beyond} of {tested.height} differences are significant after correction for many."
    )


def _ends(value: str, half: str) -> pl.Expr:
    low, high = pl.col(value) - pl.col(half), pl.col(value) + pl.col(half)
    return pl.when(pl.col(half).is_not_null()).then(pl.struct(low=low, high=high))


def _share(rows: pl.DataFrame) -> str:
    return _percent(float(rows["selected"].sum()) / float(rows["asked"].sum()))


def _range(values: pl.Series) -> str:
    low, high = (_percent(float(end)) for end in (values.to_numpy().min(), values.to_numpy().max()))
    return low if low == high else f"{low} to {high}"


def _percent(share: float) -> str:
    return f"{number(100 * share, '.0f')} %"
