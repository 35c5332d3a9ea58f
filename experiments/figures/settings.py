"""Settings of a grid: what they are called, which privacy level they are, where most cells lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

EPSILON, CLIP_NORM = "privacy.epsilon", "privacy.clip-norm"
WITHOUT_DP = "no DP"

_STRICTER_IF_LARGER = ("privacy.noise-multiplier",)
LEVEL_KEYS = (EPSILON, *_STRICTER_IF_LARGER)
"""Keys whose values are privacy levels."""


def short(key: str) -> str:
    """Return how an axis of a grid is called in a figure: ε and C, else the key's last part."""
    known = {
        "privacy.epsilon": "ε",
        "privacy.clip-norm": "C",
        "privacy.noise-multiplier": "σ",
        "data.alpha": "α",
    }
    return known.get(key, key.rpartition(".")[2])


def show(value: object) -> str:
    """Return a value of an axis as short text."""
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


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


def independent(rows: pl.DataFrame, keys: Sequence[str]) -> list[str]:
    """Return those `keys` that are axes: of keys whose values go together, the first.

    A grid's `[[together]]` varies several keys as one axis: each value of one of them has one value
    of the others.
    """
    axes: list[str] = []
    for key in dict.fromkeys(keys):
        values = rows[key].n_unique()
        pairs = [(rows[axis].n_unique(), rows.select(axis, key).unique().height) for axis in axes]
        if (values, values) not in pairs:
            axes.append(key)
    return axes


def of_setting(rows: pl.DataFrame, values: Mapping[str, object]) -> pl.DataFrame:
    """Return the rows with these values; a twin, which has no privacy keys, matches any of them."""
    for key, value in values.items():
        same = pl.col(key).eq_missing(pl.lit(value))
        rows = rows.filter(same | (pl.col("is_twin") & pl.col(key).is_null()))
    return rows


def described(values: Mapping[str, object]) -> str:
    """Return values of keys as a title shows them."""
    return ", ".join(f"{short(key)} = {show(value)}" for key, value in values.items())


def with_levels(table: pl.DataFrame, *, private: bool = True) -> pl.DataFrame:
    """Add `level` ("ε = 4", "σ = 1", "with DP", "no DP") and `level_order`, infinite without DP.

    Args:
        table: `is_twin` and the keys of a grid's axes.
        private: whether cells are whose axes do not say.
    """
    without = pl.col("is_twin") if private else pl.lit(value=True)
    if "privacy.mode" in table.columns:
        without = without | (pl.col("privacy.mode") == "none").fill_null(value=False)
    key = next((key for key in LEVEL_KEYS if key in table.columns), None)
    if key is None:
        name, order = pl.lit("with DP"), pl.lit(0.0)
    else:
        value = pl.col(key).cast(pl.Float64)
        shown = value.map_elements(lambda number: f"{number:g}", return_dtype=pl.String)
        name = pl.format(f"{short(key)} = {{}}", shown)
        order = -value if key in _STRICTER_IF_LARGER else value
    return table.with_columns(
        level=pl.when(without).then(pl.lit(WITHOUT_DP)).otherwise(name),
        level_order=pl.when(without).then(float("inf")).otherwise(order),
    )


def levels_of(table: pl.DataFrame) -> list[str]:
    """Return the privacy levels of a table with `level` and `level_order`, strictest first."""
    return table.select("level", "level_order").unique().sort("level_order")["level"].to_list()
