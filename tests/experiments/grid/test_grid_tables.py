"""A grid's tables hold what its runs wrote, and the summary what one computes by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from experiments.grid.cells import expand
from experiments.grid.directory import GridDirectory, Manifest
from experiments.grid.export import latex, pivoted, write_csv, write_latex
from experiments.grid.grid_file import GridFile
from experiments.grid.tables import write_tables
from fnl.cli.grid import status
from fnl.errors import ConfigError, RunError
from fnl.runtime.run_directory import RunDirectory, read_run
from fnl.runtime.run_record import write_record

NAME = "privacy.epsilon"


def _accuracy(cell):
    """Made-up last accuracies: without privacy .8, .7, .9, with it less by ε and seed."""
    plain = [0.8, 0.7, 0.9][cell.config.run.seed]
    if not cell.config.is_private:
        return plain
    loss = {2.0: [0.3, 0.2, 0.25], 8.0: [0.1, 0.12, 0.05]}[cell.config.privacy.epsilon]
    selection = 0.05 if cell.config.coordination.selection == "random" else 0.0
    return plain - loss[cell.config.run.seed] - selection


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A grid of finished runs; read only."""
    place = tmp_path_factory.mktemp("grids")
    file = GridFile.model_validate(
        {
            "name": "g",
            "twins": True,
            "axes": {
                NAME: [2, 8],
                "coordination.selection": ["random", "rate-difference"],
                "run.seed": [0, 1, 2],
            },
            "baseline": {"coordination.selection": "random"},
        }
    )
    grid = expand(file, place / "g.toml")
    directory = GridDirectory(place / "g")
    with directory.locked():
        directory.write(Manifest(grid.name, grid.keys, grid.baseline, grid.cells, "", {}))
    for cell in grid.cells:
        config = directory.config_to_run(cell)
        run = RunDirectory.create(config, engine="in-process", metadata={})
        run.add({"round": 0, "accuracy": 0.1}, [], [])
        run.add({"round": 1, "accuracy": 0.5, "loss": None, "update_norm": 2.0}, [], [])
        run.add({"round": 2, "accuracy": _accuracy(cell)}, [], [])
        run.finish({"w": np.zeros(1, np.float32)})
    return directory.path


@pytest.fixture
def directory(tmp_path, written):
    return GridDirectory(Path(shutil.copytree(written, tmp_path / "g")))


def _summary(directory, **setting):
    write_tables(directory)
    table = pl.read_parquet(directory.path / "summary.parquet")
    return table.filter(**setting)


def test_cells_and_results(directory):
    write_tables(directory)
    cells = pl.read_parquet(directory.path / "cells.parquet")
    assert cells.columns == [
        "cell", "seed", NAME, "coordination.selection", "run.seed", "is_twin", "twin", "status",
        "run", "seconds",
    ]  # fmt: skip
    assert cells.height == 12 + 6
    assert cells["status"].unique().to_list() == ["finished"]
    assert all((directory.path / run / "run.json").exists() for run in cells["run"])
    twins = cells.filter("is_twin")
    assert set(cells["twin"].drop_nulls()) == set(twins["cell"])
    assert twins[NAME].null_count() == 6
    results = pl.read_parquet(directory.path / "results.parquet")
    assert results.schema["value"] == pl.Float64
    assert results.columns == ["cell", "seed", "round", "metric", "value"]
    one = results.filter(cell=cells["cell"][0]).sort("metric", "round")
    assert one.select("round", "metric", "value").rows() == [
        (0, "accuracy", 0.1),
        (1, "accuracy", 0.5),
        (2, "accuracy", pytest.approx(0.45)),
        (1, "update_norm", 2.0),
    ]


def test_the_summary_by_hand(directory):
    setting = {NAME: 2.0, "coordination.selection": "rate-difference", "metric": "accuracy"}
    (row,) = _summary(directory, **setting).rows(named=True)
    values = np.array([0.5, 0.5, 0.65])
    assert row["n"] == 3
    assert row["mean"] == pytest.approx(values.mean())
    assert row["se"] == pytest.approx(stats.sem(values))
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["difference"] == pytest.approx(-0.25)
    twin = np.array([0.8, 0.7, 0.9])
    assert row["p_value"] == pytest.approx(stats.ttest_rel(values, twin).pvalue)
    assert row["baseline_difference"] == pytest.approx(0.05)
    assert row["difference_low"] <= -0.25 <= row["difference_high"]


def test_p_values_are_adjusted_over_the_settings_of_a_metric(directory):
    table = _summary(directory, metric="accuracy", is_twin=False)
    raw = sorted(table["p_value"])
    assert len(raw) == 4
    running, expected = 0.0, []
    for place, p in enumerate(raw):
        running = max(running, min(1.0, p * (4 - place)))
        expected.append(running)
    assert sorted(table["p_adjusted"]) == pytest.approx(expected)


def test_the_last_round_counts_and_nulls_stay_away(directory):
    table = _summary(directory)
    assert table["metric"].unique().to_list() == ["accuracy"]  # no update_norm in round 2
    twins = table.filter("is_twin")
    assert twins["difference"].null_count() == len(twins)
    random = table.filter(pl.col("coordination.selection") == "random")
    assert random["baseline_difference"].null_count() == len(random)


def test_unfinished_cells_are_listed_and_not_summarised(directory):
    manifest = directory.manifest()
    first, second = manifest.cells[0].id, manifest.cells[1].id
    path = directory.cells / first
    write_record(path, read_run(path) | {"status": "running"})
    (directory.cells / second / "run.json").unlink()
    write_tables(directory)
    cells = pl.read_parquet(directory.path / "cells.parquet")
    assert cells["status"].to_list()[:3] == ["interrupted", "pending", "finished"]
    results = pl.read_parquet(directory.path / "results.parquet")
    assert not set(results["cell"]) & {first, second}
    with directory.locked():
        write_tables(directory)  # its driver's own lock: then it runs
    assert pl.read_parquet(directory.path / "cells.parquet")["status"][0] == "running"


def test_a_grid_with_nothing_finished_has_empty_tables(directory):
    for cell in directory.manifest().cells:
        (directory.cells / cell.id / "run.json").unlink()
    write_tables(directory)
    assert pl.read_parquet(directory.path / "summary.parquet").is_empty()
    assert pl.read_parquet(directory.path / "results.parquet").is_empty()


def test_the_status_counts_cells_and_names_errors(directory, capsys):
    broken = directory.cells / directory.manifest().cells[0].id
    write_record(broken, read_run(broken) | {"status": "failed", "error": "no clips today"})
    status(directory.path)
    output = capsys.readouterr().out
    assert "grid g: 1 failed, 17 finished; no driver is at work" in output
    assert f"failed: {directory.manifest().cells[0].id}: no clips today" in output


def test_the_status_names_a_cell_whose_tables_are_damaged(directory, capsys):
    cell = directory.manifest().cells[0].id
    (directory.cells / cell / "digests.json").write_text("[]")
    status(directory.path)
    output = capsys.readouterr().out
    assert "grid g: 1 damaged, 17 finished" in output
    assert f"damaged: {cell}: " in output.replace("\n", " ")


def test_csv_and_latex(directory):
    write_tables(directory)
    cells = pl.read_csv(write_csv(directory)[0])
    assert (
        cells["cell"].to_list()
        == pl.read_parquet(directory.path / "cells.parquet")["cell"].to_list()
    )
    (path,) = write_latex(directory, ["accuracy"])
    lines = path.read_text().splitlines()
    assert lines[1] == r"\toprule"
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
    assert len(lines) == 4 + 6 + 2  # four private settings and two twins
    assert "& Difference from baseline (Selection = random) & from baseline: " in lines[2]
    assert lines[2].count("(Selection = random)") == 1
    columns = lines[0].rpartition("{")[2].removesuffix("}")
    assert {line.count("&") + 1 for line in lines if "&" in line} == {len(columns)}
    with pytest.raises(
        ConfigError, match=r"--metric 'acuracy' is not measured: choose of accuracy"
    ):
        write_latex(directory, ["acuracy"])


def test_latex_escapes_what_it_would_read_as_its_own():
    summary = pl.DataFrame(
        {
            "data.words": ["a_b%"], "is_twin": [False], "n": [1], "mean": [0.5], "se": [None],
            "low": [None], "high": [None], "difference": [None], "baseline_difference": [None],
        }
    )  # fmt: skip
    text = latex(summary, ["data.words"], {})
    assert r"a\_b\% & 1 & $0.5000$ & -- \\" in text
    assert r"Words & Seeds & Mean & 95\,\% interval \\" in text


def test_latex_has_the_digits_of_the_error_and_a_column_a_value_of_the_pivot():
    rows = [
        {"privacy.epsilon": epsilon, "coordination.selection": rule, "is_twin": twin, "n": 3,
         "mean": mean, "se": 0.0123, "low": mean - 0.0529, "high": mean + 0.0529,
         "difference": None, "baseline_difference": None}
        for epsilon, rule, twin, mean in [
            (2.0, "random", False, 0.51234), (8.0, "random", False, 0.6),
            (2.0, "loss", False, 0.4), (None, "random", True, 0.8), (None, "loss", True, 0.7),
        ]
    ]  # fmt: skip
    text = pivoted(
        pl.DataFrame(rows), ["privacy.epsilon", "coordination.selection"], "privacy.epsilon"
    )
    heads = r"Selection & $\varepsilon$ = 2 & $\varepsilon$ = 8 & without DP \\"
    assert heads in text
    assert r"random & $0.512 \pm 0.053$ & $0.600 \pm 0.053$ & $0.800 \pm 0.053$ \\" in text
    assert r"loss & $0.400 \pm 0.053$ & -- & $0.700 \pm 0.053$ \\" in text


def test_what_is_no_grid(tmp_path):
    with pytest.raises(RunError, match=r"is not a grid's directory: it has no grid\.json"):
        GridDirectory.open(tmp_path)
    (tmp_path / "grid.json").write_text("{}")
    with pytest.raises(RunError, match=r"grid\.json is not a grid's record"):
        GridDirectory.open(tmp_path).manifest()


def test_two_drivers_are_refused(directory):
    with (
        directory.locked(),
        pytest.raises(RunError, match="another `fnl grid run` is at work"),
        GridDirectory(directory.path).locked(),
    ):
        pytest.fail("two drivers at once")
