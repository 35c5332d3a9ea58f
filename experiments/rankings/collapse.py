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

from experiments.figures.style import LOOKS, Sheet, finish, save_file
from fnl.errors import RunError

_LEAST, _MOST = 1e-3, 1e3
"""Ratios that are drawn: beyond, they stand at the edge."""


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
    )
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
    left = tau - 2 / np.pi * np.arcsin(found["correlation"].to_numpy().clip(-1, 1))
    return float(1 - (left**2).sum() / ((tau - tau.mean()) ** 2).sum())


def summary(found: pl.DataFrame) -> pl.DataFrame:
    """Return R², count and mean error of τ: of all, by who says the ratio, and by rule."""
    parts = [("all", found)]
    for key in ("by", "rule"):
        parts += [
            (str(name), part)
            for (name,), part in found.sort(key).group_by(key, maintain_order=True)
        ]
    return pl.DataFrame(
        [
            {
                "of": name,
                "points": part.height,
                "R2": explained(part),
                "error": float((part["tau"] - _curve(part)).mean() or 0.0),  # type: ignore[arg-type]
            }
            for name, part in parts
        ]
    )


def draw(found: pl.DataFrame, path: Path) -> None:
    """Draw τ against the ratio, a panel for who says it, with the curve of Gaussian scores."""
    shown = [(by, part) for by in ("law", "pilot") if (part := found.filter(by=by)).height]
    titles = {"law": "By first order", "pilot": "By the noise of other seeds"}
    panels = [partial(_panel, part, titles[by], LOOKS[k]) for k, (by, part) in enumerate(shown)]
    notes = [
        f"{found.height} rankings (a run and a rule each): R² = {explained(found):.2f} about the "
        "curve, which has no fitted parameter.",
        f"Ratios beyond {_LEAST:g} and {_MOST:g} stand at the edges.",
    ]
    save_file(Sheet("Kendall's τ against signal over noise", panels, notes, 2.6).draw(), path)


def _curve(part: pl.DataFrame) -> pl.Series:
    return pl.Series(2 / np.pi * np.arcsin(part["correlation"].to_numpy().clip(-1, 1)))


def _panel(part: pl.DataFrame, title: str, look, axes: Axes) -> None:
    rho = part["correlation"].to_numpy().clip(0, 1)
    ratio = np.divide(rho**2, 1 - rho**2, out=np.full_like(rho, _MOST), where=rho < 1)
    axes.plot(
        ratio.clip(_LEAST, _MOST), part["tau"].to_numpy(), linestyle="", marker=look.marker,
        color=look.colour, markersize=2.2, alpha=0.5, label="_rankings",
    )  # fmt: skip
    x = np.geomspace(_LEAST, _MOST, 200)
    axes.plot(x, 2 / np.pi * np.arcsin(np.sqrt(x / (1 + x))), color="0.2", label="Gaussian scores")
    axes.set_xscale("log")
    axes.set_ylim(-0.6, 1.05)
    finish(axes, f"{title}: R² = {explained(part):.2f}", x="signal / noise", y="Kendall's τ")
