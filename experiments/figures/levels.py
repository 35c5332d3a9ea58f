"""Privacy levels: by what runs differ in privacy, named for legends and ordered by strictness."""

from __future__ import annotations

import polars as pl

from experiments.figures.looks import WITHOUT_DP, short

_STRICTER_IF_LARGER = ("privacy.noise-multiplier",)
_LEVEL_KEYS = ("privacy.epsilon", *_STRICTER_IF_LARGER)


def with_levels(table: pl.DataFrame) -> pl.DataFrame:
    """Add `level` ("ε = 4", "σ = 1", "with DP", "no DP") and `level_order`, infinite without DP.

    Args:
        table: `is_twin` and the keys of a grid's axes.
    """
    without = pl.col("is_twin")
    if "privacy.mode" in table.columns:
        without = without | (pl.col("privacy.mode") == "none").fill_null(value=False)
    key = next((key for key in _LEVEL_KEYS if key in table.columns), None)
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
