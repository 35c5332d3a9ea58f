"""The part of a grid in which most of its cells lie: what single cells are added to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from experiments.figures.looks import short, show


def main_product(rows: pl.DataFrame, keys: Sequence[str]) -> dict[str, object] | None:
    """Return the values of `keys` that most settings share; None if all values have as many.

    A grid's axes make a product; `include` adds cells around it that differ in further keys. Means
    over those keys would mix the product with its exceptions.

    Args:
        rows: with a column for each varied key, named "group.key".
        keys: of them.
    """
    if not keys:
        return None
    varied = [column for column in rows.columns if "." in column]
    counts = rows.select(varied).unique(maintain_order=True).group_by(keys, maintain_order=True)
    sizes = counts.len()
    if sizes["len"].n_unique() == 1:
        return None
    largest = sizes.row(int(sizes["len"].to_numpy().argmax()), named=True)
    return {key: largest[key] for key in keys}


def described(values: Mapping[str, object]) -> str:
    """Return values of keys as a title shows them."""
    return ", ".join(f"{short(key)} = {show(value)}" for key, value in values.items())
