"""The table of the three effects: its statistics against SciPy, its rows against the tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from experiments.effects import EFFECTS, effects, main, markdown, predictions, read_runs
from experiments.grid.statistics import t_interval
from fnl.config import parse_config


def write_run(grid: Path, name: str, *, seed: int, shift: float, floor: bool = True) -> None:
    """Write what `effects` reads of one run: two rounds whose values differ from seed to seed."""
    path = grid / "cells" / name
    path.mkdir(parents=True)
    config = parse_config({"run.seed": seed, "evaluation.shadow": True, "evaluation.floor": floor})
    record = {"status": "finished", "config": config.flat()}
    (path / "run.json").write_text(json.dumps(record))
    draws = np.random.default_rng(seed)
    base = draws.normal(size=2)
    columns = {}
    for private, plain in EFFECTS.values():
        columns[private] = [None, *(base + shift + draws.normal(0, 0.1, 2))]
        columns[plain] = [None, *base]
    pl.DataFrame(columns).write_parquet(path / "rounds.parquet")
    predicted = draws.normal(size=40)
    pl.DataFrame(
        {
            "rate_shift": 0.5 * predicted + draws.normal(0, 0.01, 40),
            "predicted_rate_shift": predicted,
            "predicted_rate_shift_sd": np.full(40, 0.2),
        }
    ).write_parquet(path / "clients.parquet")


@pytest.fixture
def grid(tmp_path) -> Path:
    for seed in range(4):
        write_run(tmp_path, f"seed{seed}", seed=seed, shift=-0.7)
    write_run(tmp_path, "without", seed=9, shift=5.0, floor=False)
    return tmp_path


def test_differences_are_paired_by_seed_and_tested_as_scipy_does(grid):
    runs = read_runs(grid)
    assert len(runs) == 4
    row = effects(runs).row(0, named=True)
    tables = [pl.read_parquet(path / "rounds.parquet") for _, path in runs]
    private = [table["rate_shift"].mean() for table in tables]
    floor = [table["rate_shift_floor"].mean() for table in tables]
    expected = stats.ttest_rel(private, floor)
    assert row["p"] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert row["difference"] - row["half"] == pytest.approx(interval.low)
    assert row["difference"] + row["half"] == pytest.approx(interval.high)
    assert row["difference"] == pytest.approx(-0.7, abs=0.2)


def test_one_seed_has_no_interval():
    assert t_interval(np.array([3.0])) == (3.0, float("inf"))


def test_predictions_are_correlated_over_all_rounds_of_clients(grid):
    said = predictions(read_runs(grid))
    assert "160 rounds of clients, Pearson r 1.00" in said


def test_the_command_prints_a_line_a_setting_and_effect(grid, capsys):
    assert main([str(grid)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| adam")]
    assert len(lines) == len(EFFECTS) == markdown(effects(read_runs(grid))).count("| adam")
    assert main([str(grid / "cells")]) == 1
    assert "no finished private run" in capsys.readouterr().err
