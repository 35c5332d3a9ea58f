"""Do all rules of all cells lie on one curve? τ against the signal-to-noise ratio of scores.

For Gaussian scores τ = (2/π) arcsin ρ, and ρ² / (1 − ρ²) is signal over noise: one curve, whatever
the rule, ε, C, optimizer, clips or steps. The ratio is that of first order where `fnl plan` would
trust it, else that of the noise seen in the *other* seeds of the setting: no τ is compared with a
ratio that was taken from its own draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from numpy.typing import NDArray

from experiments.figures.style import LOOKS, PLAIN, Sheet, finish, save_file
from fnl.errors import RunError

_LEAST, _MOST = 1e-3, 1e2
"""Ratios that are drawn: beyond, they stand at the edge."""
_MIRRORS = ("lowest-rate", "target-rate")
"""Rules whose ranking is that of `highest-rate` turned, the latter where all rates lie on one side
of the target: counted once."""
_FAMILIES = {
    "rates": ("highest-rate", "highest-rate-global"),
    "changes of rates": (
        "rate-difference", "rate-difference-debiased", "rate-difference-signed",
        "rate-difference-scalar", "rate-difference-scalar-signed", "rate-change-global",
    ),
    "rates by layer": ("rate-diversity",),
    "update norm": ("update-norm",),
}  # fmt: skip
"""Rules by what they rank by: one look each."""


def points(rows: pl.DataFrame, settings: Sequence[str]) -> pl.DataFrame:
    """Return a row a run and rule with `correlation`, expected of it, and `tau`, measured.

    Args:
        rows: of `experiments.rankings.measure.measured`, told apart by `settings` and the seed.
        settings: the varied keys but the seed.

    Raises:
        RunError: if a setting has one seed only.
    """
    known = rows.filter(
        pl.col("estimate") == "plain", pl.col("by") != "exact", pl.col("tau").is_not_null()
    ).filter(~pl.col("rule").is_in(_MIRRORS))
    group = [*settings, "rule"]
    if known.height and known.group_by(group).len()["len"].to_numpy().min() < 2:
        raise RunError("a setting has one seed: what is expected comes from the others of it")
    count = pl.len().over(group)
    others = (pl.col("seen").sum().over(group) - pl.col("seen")) / (count - 1)
    return known.with_columns(
        correlation=pl.when(pl.col("by") == "law").then(pl.col("law")).otherwise(others)
    )


def explained(found: pl.DataFrame) -> float:
    """Return R² = 1 − Σ(τ − (2/π) arcsin ρ)² / Σ(τ − mean)²: no parameter is fitted."""
    tau = found["tau"].to_numpy()
    left = tau - _curve(found)
    return float(1 - (left**2).sum() / ((tau - tau.mean()) ** 2).sum())


def reachable(found: pl.DataFrame, settings: Sequence[str]) -> float:
    """Return the R² that a perfect expectation of each setting would have: the rest is seeds."""
    within = found.group_by(*settings, "rule").agg(pl.col("tau").var())["tau"].drop_nulls()
    return float(1 - within.to_numpy().mean() / found["tau"].to_numpy().var(ddof=1))


def of_settings(found: pl.DataFrame, settings: Sequence[str]) -> pl.DataFrame:
    """Return a row a setting and rule: τ and correlation, means over seeds of the same runs."""
    known = found.with_columns(
        correlation=pl.when(pl.col("by") == "law").then(pl.col("law")).otherwise(pl.col("seen"))
    )
    groups = known.group_by(*settings, "rule", maintain_order=True)
    return groups.agg(pl.col("tau", "correlation").mean(), pl.col("by").mode().sort().first())


def summary(found: pl.DataFrame, settings: Sequence[str]) -> pl.DataFrame:
    """Return R² of runs, what is reachable, R² of settings and mean error, of all and of parts."""
    parts = [("all", found)]
    for key in ("by", "rule"):
        groups = found.sort(key).group_by(key, maintain_order=True)
        parts += [(str(name), part) for (name,), part in groups]
    return pl.DataFrame(
        [
            {
                "of": name,
                "runs": part.height,
                "R2": explained(part),
                "reachable": reachable(part, settings),
                "R2 of settings": explained(of_settings(part, settings)),
                "error": float((part["tau"].to_numpy() - _curve(part)).mean()),
            }
            for name, part in parts
        ]
    )


def draw(found: pl.DataFrame, settings: Sequence[str], path: Path) -> None:
    """Draw τ against the ratio with the curve of Gaussian scores: settings, and single runs."""
    means = of_settings(found, settings)
    panels = [
        partial(_panel, means, "Settings, means over seeds"),
        partial(_panel, found, "Runs, expected from other seeds"),
    ]
    notes = [
        f"{means.height} settings by rules, {found.height} runs by rules. The curve is "
        "(2/π) arcsin ρ, with no fitted parameter.",
        "Signal / noise by first order where it agrees with the noise seen, else by the latter. "
        f"Ratios beyond {_LEAST:g} and {_MOST:g} stand at the edges.",
    ]
    save_file(Sheet("Kendall's τ against signal over noise", panels, notes, 2.8).draw(), path)


def _curve(part: pl.DataFrame) -> NDArray[np.float64]:
    return 2 / np.pi * np.arcsin(part["correlation"].to_numpy().clip(-1, 1))


def _panel(part: pl.DataFrame, title: str, axes: Axes) -> None:
    for look, (name, rules) in zip(LOOKS, _FAMILIES.items(), strict=True):
        shown = part.filter(pl.col("rule").is_in(rules))
        rho = shown["correlation"].to_numpy().clip(0, 1)
        ratio = np.divide(rho**2, 1 - rho**2, out=np.full_like(rho, _MOST), where=rho < 1)
        axes.plot(
            ratio.clip(_LEAST, _MOST), shown["tau"].to_numpy(), linestyle="", marker=look.marker,
            color=look.colour, markersize=2.6, alpha=0.7, label=name,
        )  # fmt: skip
    x = np.geomspace(_LEAST, _MOST, 200)
    axes.plot(x, 2 / np.pi * np.arcsin(np.sqrt(x / (1 + x))), color="0.2", label="_curve")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(PLAIN)
    title = f"{title}: R² = {explained(part):.2f}"
    finish(axes, title, x="signal / noise (variances)", y="Kendall's τ")
