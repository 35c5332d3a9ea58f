"""Why a figure is not drawn."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


class LeftOut(Exception):  # noqa: N818 a reason, not a failure
    """A figure cannot be drawn from this table; the message says what is absent."""


def need(table: pl.DataFrame, columns: Sequence[str], *, of: str) -> pl.DataFrame:
    """Return the rows of `table` in which all `columns` have a value.

    Args:
        table: to draw.
        columns: that the figure needs.
        of: what the table is, for the message.

    Raises:
        LeftOut: if a column is missing, or no row has all of them.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise LeftOut(f"{of} has no {' nor '.join(missing)}")
    rows = table.drop_nulls(list(columns))
    for column in columns:
        if rows.schema[column].is_float():
            rows = rows.filter(pl.col(column).is_not_nan())
    if not rows.height:
        empty = [column for column in columns if not table[column].count()] or list(columns)
        raise LeftOut(f"{of} has no value of {' and '.join(empty)}")
    return rows
