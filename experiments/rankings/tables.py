"""What plays of a grid's cells come to: tables of τ by setting, of estimates, and of settings."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from experiments.grid.statistics import paired_p_value, t_interval
from experiments.rankings.measure import PER_RUN
from experiments.study import markdown_table

SEED = "run.seed"


def by_setting(rows: pl.DataFrame, settings: Sequence[str], rules: Sequence[str]) -> pl.DataFrame:
    """Return a row a setting: what the run was, and τ of `rules`; mean ± half interval of seeds."""
    plain = rows.filter(pl.col("estimate") == "plain", pl.col("rule").is_in(rules))
    found = []
    for values, group in plain.group_by(settings, maintain_order=True):
        runs = group.unique(SEED, maintain_order=True)
        about = {name: _shown(runs[name]) for name in PER_RUN}
        taus = {rule: _shown(group.filter(rule=rule)["tau"]) for rule in rules}
        found.append({**dict(zip(settings, values, strict=True)), **about, **taus})
    return pl.DataFrame(found, infer_schema_length=None)


def of_estimates(rows: pl.DataFrame, settings: Sequence[str]) -> pl.DataFrame:
    """Return a row a rule and estimate: τ less that of the plain score of the same run, paired.

    One number a seed, the mean over the settings: runs of one seed share their clients. Rules that
    no noise of privacy reaches are left out: there is nothing to estimate.
    """
    keys = [*settings, SEED, "rule"]
    plain = rows.filter(pl.col("estimate") == "plain", pl.col("by") != "exact")
    others = rows.filter(pl.col("estimate") != "plain").select(*keys, "estimate", other="tau")
    pairs = plain.select(*keys, "tau").join(others, on=keys, nulls_equal=True)
    seeds = pairs.group_by("rule", "estimate", SEED, maintain_order=True).agg(
        pl.col("tau").mean(), (pl.col("other") - pl.col("tau")).mean().alias("gain")
    )
    found = []
    for (rule, estimate), group in seeds.group_by("rule", "estimate", maintain_order=True):
        gains = group.sort(SEED)["gain"].to_numpy()
        mean, half = t_interval(gains)
        row = {"rule": rule, "estimate": estimate, "plain": group["tau"].mean(), "gain": mean}
        found.append(row | {"half": half, "p": paired_p_value(gains)})
    return pl.DataFrame(found, infer_schema_length=None)


def markdown(table: pl.DataFrame) -> str:
    """Return a table as Markdown, without columns of which all values are the same."""
    names = [name for name in table.columns if table[name].n_unique() > 1]
    rows = [
        [f"{value:.3g}" if isinstance(value, float) else f"{value}" for value in row]
        for row in table.select(names).iter_rows()
    ]
    return markdown_table(names, rows)


def _shown(values: pl.Series) -> str:
    """Return mean ± half of Student's interval, or the mean alone of one value."""
    known = values.drop_nulls().to_numpy()
    if not len(known):
        return "-"
    mean, half = t_interval(known)
    return f"{mean:.3g}" if len(known) < 2 else f"{mean:.3g} ± {half:.2g}"
