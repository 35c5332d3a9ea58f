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
from experiments.rankings.measure import measured
from experiments.rankings.play import RANKED, played
from experiments.rankings.tables import by_setting, of_estimates
from fnl.config import parse_config
from fnl.errors import RunError
from fnl.metrics.ranking import kendall_tau
from fnl.planning.predictions import Scored, in_noise


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
    scores = played(parse_config(flat)).with_columns(run=pl.lit(0))
    rows = measured(scores, ["run"], selected=2)
    plain = {row["rule"]: row for row in rows.filter(estimate="plain").iter_rows(named=True)}
    assert plain.keys() == set(RANKED)
    run = fnl.run(flat, progress=False)
    own = plain["highest-rate"]
    assert own["tau"] == pytest.approx(run.rounds["kendall_tau_shadow"].drop_nulls().mean())
    assert own["flips"] == pytest.approx(run.rounds["flip_rate_shadow"].drop_nulls().mean())
    assert own["rate_shift"] == pytest.approx(run.rounds["rate_shift"].drop_nulls().mean())
    assert own["accuracy"] == run.rounds["accuracy"][-1]
    clients = run.clients.select("round", "partition", private="score", shadow="score_shadow")
    kept = scores.filter(rule="highest-rate", estimate="plain").select(clients.columns)
    assert kept.sort("round", "partition").equals(clients.sort("round", "partition"))
    assert plain["highest-rate-global"]["by"] == "exact"
    assert plain["lowest-rate"]["tau"] == own["tau"]


def test_a_cell_is_played_once(flat, tmp_path):
    del flat["run.results-dir"]  # the grid's to choose
    file = GridFile(name="g", base=flat | {"run.rounds": 1}, axes={"run.seed": [0, 1]})
    grid = expand(file, tmp_path / "g.toml")
    rows = play_grid(grid, tmp_path)
    first, *_ = sorted((tmp_path / "rankings").iterdir())
    pl.read_parquet(first).with_columns(private=pl.col("shadow")).write_parquet(first)
    again = play_grid(grid, tmp_path).filter(estimate="plain")
    assert rows.columns == again.columns
    assert set(again["run.seed"]) == {0, 1}
    perfect = again.group_by("run.seed").agg((pl.col("tau").drop_nulls() == 1).all())
    assert perfect["tau"].to_list().count(True) == 1


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
            known = {"seen": rho, "law": rho, "by": by}
            rows.append({"setting": setting, "run.seed": seed, **found, **known})
    return pl.DataFrame(rows)


def test_gaussian_scores_lie_on_the_curve_and_others_do_not(tmp_path):
    rows = made_up(np.linspace(0.05, 0.98, 12))
    found = points(rows, ["setting"])
    assert explained(found) > 0.97
    said = summary(found, ["setting"])
    assert said["of"].to_list() == ["all", "law", "pilot", "highest-rate"]
    assert np.abs(said["error"].to_numpy()).max() < 0.03
    assert (said["R2 of settings"] >= said["R2"] - 0.01).all()
    assert (said["reachable"] > 0.95).all()
    mixed = rows.with_columns(pl.col("tau").reverse())
    assert explained(points(mixed, ["setting"])) < 0
    draw(found, ["setting"], tmp_path / "collapse.svg")
    assert f"R² = {explained(found):.2f}" in (tmp_path / "collapse.svg").read_text()


def test_a_ratio_that_no_law_gives_comes_from_the_other_seeds():
    rows = pl.DataFrame(
        {
            "setting": [0, 0, 0], "rule": "loss", "estimate": "plain", "by": "pilot",
            "law": None, "seen": [0.1, 0.3, 0.8], "tau": [0.0, 0.1, 0.2],
        }
    )  # fmt: skip
    assert points(rows, ["setting"])["correlation"].to_list() == pytest.approx([0.55, 0.45, 0.2])
    with pytest.raises(RunError, match="one seed"):
        points(rows[:1], ["setting"])


def test_tables_pair_estimates_within_runs_and_average_over_seeds():
    runs = {
        "setting": [0, 0, 0, 0, 1, 1, 1, 1], "run.seed": [0, 0, 1, 1] * 2, "rule": "highest-rate",
        "estimate": ["plain", "filtered"] * 4, "by": ["law", None] * 4,
        "tau": [0.1, 0.3, 0.2, 0.2, 0.5, 0.7, 0.4, 0.6], "accuracy_first": 0.1,
        "accuracy": [0.2, 0.2, 0.4, 0.4] * 2, "rate_shift": 0.0, "sigma": 1.0, "clips": 80.0,
    }  # fmt: skip
    (row,) = of_estimates(pl.DataFrame(runs), ["setting"]).iter_rows(named=True)
    assert row["plain"] == pytest.approx(0.3)
    assert row["gain"] == pytest.approx(0.15)  # of seeds: 0.2 and 0.1
    assert row["half"] == pytest.approx(12.706 * 0.05, rel=1e-3)
    table = by_setting(pl.DataFrame(runs), ["setting"], ["highest-rate"])
    assert table["highest-rate"].to_list() == ["0.15 ± 0.64", "0.45 ± 0.64"]
    assert table["accuracy_first"].to_list() == ["0.1 ± 0"] * 2


def test_the_pilots_noise_is_what_was_added_and_what_was_taken_away():
    """Scores of a clean value of which noise leaves the share 0.6, in noise of deviation 0.5."""
    draws = np.random.default_rng(1)
    clean = draws.normal(size=(200, 12))
    noisy = 0.6 * clean + 0.5 * draws.normal(size=clean.shape) + 3.0
    moments = in_noise(Scored(noisy, clean, clean, clean))
    assert moments.variance.mean() == pytest.approx(0.25, rel=0.1)
    assert moments.correlation() == pytest.approx(0.6 / np.hypot(0.6, 0.5), abs=0.02)
    weaker = in_noise(Scored(noisy, clean, clean, clean), 0.5)
    assert moments.correlation() < weaker.correlation() < 1
    assert in_noise(Scored(noisy, clean, clean, clean), 0.0).correlation() == pytest.approx(1)
