"""Rankings of a grid's cells: against runs of the same cells, and against draws of the law."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import fnl
from experiments.grid.cells import expand
from experiments.grid.grid_file import GridFile
from experiments.rankings.__main__ import play_grid
from experiments.rankings.collapse import draw, explained, points, summary
from experiments.rankings.play import RANKED, played
from fnl.config import parse_config
from fnl.errors import RunError
from fnl.metrics.ranking import kendall_tau


@pytest.fixture
def flat(small_config):
    return small_config | {
        "training.optimizer": "sgd",
        "training.batch-size": 0,
        "training.steps": 1,
        "coordination.candidates": 4,
        "coordination.selection": "highest-rate",
        "privacy.epsilon": 50.0,
        "run.rounds": 3,
    }


def test_a_play_is_the_run_and_scores_rules_that_it_did_not_use(flat):
    rows = played(parse_config(flat))
    plain = {row["rule"]: row for row in rows.filter(estimate="plain").iter_rows(named=True)}
    assert plain.keys() == set(RANKED)
    run = fnl.run(flat, progress=False)
    own = plain["highest-rate"]
    assert own["tau"] == pytest.approx(run.rounds["kendall_tau_shadow"].drop_nulls().mean())
    assert own["flips"] == pytest.approx(run.rounds["flip_rate_shadow"].drop_nulls().mean())
    assert own["rate_shift"] == pytest.approx(run.rounds["rate_shift"].drop_nulls().mean())
    assert own["accuracy"] == run.rounds["accuracy"][-1]
    assert plain["highest-rate-global"]["by"] == "exact"
    assert plain["lowest-rate"]["tau"] == own["tau"]


def test_a_cell_is_played_once(flat, tmp_path):
    del flat["run.results-dir"]  # the grid's to choose
    file = GridFile(name="g", base=flat, axes={"run.seed": [0, 1]})
    grid = expand(file, tmp_path / "g.toml")
    rows = play_grid(grid, tmp_path)
    first, *_ = sorted((tmp_path / "rankings").iterdir())
    pl.read_parquet(first).with_columns(tau=pl.lit(0.125)).write_parquet(first)
    again = play_grid(grid, tmp_path)
    assert rows.columns == again.columns
    assert set(again["run.seed"]) == {0, 1}
    assert (again["tau"] == 0.125).sum() == len(again) / 2


def made_up(correlations: np.ndarray, *, seeds: int = 3) -> pl.DataFrame:
    """Return rows of Gaussian scores with these correlations, 40 rounds of 12 candidates each."""
    draws = np.random.default_rng(0)
    rows = []
    for setting, rho in enumerate(correlations):
        for seed in range(seeds):
            clean = draws.normal(size=(40, 12))
            noisy = rho * clean + np.sqrt(1 - rho**2) * draws.normal(size=clean.shape)
            taus = [kendall_tau(a, b) or 0.0 for a, b in zip(clean, noisy, strict=True)]
            found = {"rule": "highest-rate", "estimate": "plain", "tau": float(np.mean(taus))}
            by = ("law", "pilot")[setting % 2]
            known = {"measured": rho, "law": rho, "by": by}
            rows.append({"setting": setting, "run.seed": seed, **found, **known})
    return pl.DataFrame(rows)


def test_gaussian_scores_lie_on_the_curve_and_others_do_not(tmp_path):
    rows = made_up(np.linspace(0.05, 0.98, 12))
    found = points(rows, ["setting"])
    assert explained(found) > 0.97
    said = summary(found)
    assert said["of"].to_list() == ["all", "law", "pilot", "highest-rate"]
    assert np.abs(said["error"].to_numpy()).max() < 0.03
    mixed = rows.with_columns(pl.col("tau").reverse())
    assert explained(points(mixed, ["setting"])) < 0
    draw(found, tmp_path / "collapse.svg")
    assert f"R² = {explained(found):.2f}" in (tmp_path / "collapse.svg").read_text()


def test_a_ratio_that_no_law_gives_comes_from_the_other_seeds():
    rows = pl.DataFrame(
        {
            "setting": [0, 0, 0], "rule": "loss", "estimate": "plain", "by": "pilot",
            "law": None, "measured": [0.1, 0.3, 0.8], "tau": [0.0, 0.1, 0.2],
        }
    )  # fmt: skip
    assert points(rows, ["setting"])["correlation"].to_list() == pytest.approx([0.55, 0.45, 0.2])
    with pytest.raises(RunError, match="one seed"):
        points(rows[:1], ["setting"])
