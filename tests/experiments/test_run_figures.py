"""Figures of a run show what its tables hold; fixtures are small tables written here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from drawn import heading, legend, panel, series, titles
from figures_made_up import write_tables
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures import run_figures
from experiments.figures import style as figure_style
from experiments.figures.draw import draw_directory
from experiments.figures.run_tables import RunTables, read_tables
from experiments.figures.style import FORMATS, LOOKS, WIDTH_INCHES, Columns, Sheet, save, style
from fnl.config import parse_config
from fnl.errors import RunError
from fnl.runtime.tables import ROUNDS

CLIENTS_THERE, CANDIDATES, SELECTED = 5, 4, 2


def write_run(
    path: Path,
    *,
    rounds: int = 3,
    private: bool = True,
    shadow: bool = True,
    every: int = 1,
    status: str = "finished",
    synthetic: bool = True,
    **settings: object,
) -> Path:
    """Write a run directory; every number is drawn, so no two columns are alike."""
    draw = np.random.default_rng(0)
    number = draw.random
    round_rows: list[dict[str, object]] = []
    client_rows: list[dict[str, object]] = []
    layer_rows: list[dict[str, object]] = []
    for index in range(rounds + 1):
        row: dict[str, object] = {"round": index}
        if index % every == 0:
            row |= {"accuracy": number(), "loss": 2 + number(), "firing_rate": number()}
            layer_rows += [
                {"round": index, "layer": layer, "firing_rate": number()} for layer in (0, 1)
            ]
        if index:
            row |= {"update_norm": number(), "effective_clients": 1 + number()}
            if private:
                row |= {"epsilon_max": index + 1.0, "epsilon_mean": index + 0.5}
            if shadow:
                names = [name for name in ROUNDS if name.endswith("_shadow")]
                row |= {name: number() for name in (*names, "attenuation")}
            asked = sorted(draw.choice(CLIENTS_THERE, CANDIDATES, replace=False).tolist())
            for rank, partition in enumerate(asked, start=1):
                client_rows.append(
                    {"round": index, "partition": partition, "rank": rank, "score": number()}
                    | {"selected": rank <= SELECTED, "rate_released": False}
                    | {"firing_rate_before": number(), "firing_rate_after": number()}
                    | ({"firing_rate_shadow": number(), "score_shadow": 1.0} if shadow else {})
                    | ({"epsilon": index + partition / 10} if private else {})
                    | ({"clip_fraction": number(), "gradient_norm_median": 9.0} if private else {})
                )
                layer_rows.append(
                    {"round": index, "layer": 0, "partition": partition, "firing_rate": number()}
                    | ({"firing_rate_shadow": number()} if shadow else {})
                )
        round_rows.append(row)
    write_tables(path, rounds=round_rows, clients=client_rows, layers=layer_rows)
    config = parse_config(
        {
            "run.rounds": rounds or 1,
            "data.clients": CLIENTS_THERE,
            "coordination.candidates": CANDIDATES,
            "coordination.selected": SELECTED,
            "evaluation.shadow": shadow,
            "privacy.mode": "record" if private else "none",
            "privacy.epsilon": 6.5,
            **settings,
        }
    )
    clips = {"test": 50}
    corpus = {"labels": ["yes", "no", "up", "go"], "synthetic": synthetic, "clips": clips}
    record = {"status": status, "corpus": corpus, "config": config.flat()}
    (path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path: Path) -> RunTables:
    return read_tables(write_run(tmp_path / "run"))


def drawn(figure: Callable[[RunTables], Sheet], run: RunTables) -> Figure:
    """Return a run's figure in two columns, as the commands draw it."""
    return figure(run).draw(about=run.describe())


def level(axes: Axes, name: str) -> float:
    """Return where a horizontal reference line lies."""
    return float(series(axes, f"_{name}")[0, 1])


def test_accuracy_and_loss_are_the_tables_and_guessing_is_of_four_labels(run: RunTables) -> None:
    figure = drawn(run_figures.accuracy_figure, run)
    table = run.rounds
    accuracy, loss = panel(figure, "Accuracy"), panel(figure, "Loss")
    np.testing.assert_array_equal(
        series(accuracy, "_accuracy"), table.select("round", "accuracy").to_numpy()
    )
    np.testing.assert_array_equal(series(loss, "_loss"), table.select("round", "loss").to_numpy())
    assert level(accuracy, "chance") == 0.25
    assert level(loss, "uniform\nguess") == pytest.approx(1.3862943611)


def test_rounds_without_an_evaluation_are_bridged(tmp_path: Path) -> None:
    run = read_tables(write_run(tmp_path / "run", rounds=6, every=3))
    points = series(panel(drawn(run_figures.accuracy_figure, run), "Accuracy"), "_accuracy")
    assert points[:, 0].tolist() == [0, 3, 6]
    assert np.isfinite(points).all()


def test_an_undefined_correlation_is_a_gap_with_its_neighbours_marked(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", rounds=40)
    table = pl.read_parquet(path / "rounds.parquet")
    tau = pl.when(pl.col("round") != 2).then(pl.col("kendall_tau_shadow"))
    table.with_columns(tau, spearman_rho_shadow=None).cast(dict(ROUNDS)).write_parquet(
        path / "rounds.parquet"
    )
    axes = panel(drawn(run_figures.ranking_figure, read_tables(path)), "Rank correlation")
    points = series(axes, "Kendall τ")
    assert np.flatnonzero(np.isnan(points[:, 1])).tolist() == [1]
    assert axes.lines[0].get_markevery() == 1
    assert legend(axes) == ["Kendall τ"]


def test_candidates_are_shown_by_median_and_quartiles(run: RunTables) -> None:
    axes = panel(drawn(run_figures.firing_rates_figure, run), "Firing rates of candidates")
    for column, label in (
        ("firing_rate_before", "before"),
        ("firing_rate_after", "after training"),
        ("firing_rate_shadow", "shadow"),
    ):
        rates = run.clients[column].to_numpy().reshape(-1, CANDIDATES)
        np.testing.assert_allclose(series(axes, label)[:, 1], np.median(rates, axis=1))
    low, high = np.quantile(rates, [0.25, 0.75], axis=1)
    corners = axes.collections[2].get_paths()[0].vertices
    for edge in (low, high):
        assert all(np.isclose(corners[:, 1], value).any() for value in edge)


def test_rate_shift_is_the_rate_minus_its_shadow(run: RunTables) -> None:
    axes = panel(drawn(run_figures.firing_rates_figure, run), "Rate shift")
    rows = run.layers.filter(pl.col("partition").is_not_null())
    shift = (rows["firing_rate"] - rows["firing_rate_shadow"]).to_numpy().reshape(-1, CANDIDATES)
    np.testing.assert_allclose(series(axes, "layer 0")[:, 1], np.median(shift, axis=1))


def test_ranking_shows_one_minus_the_flip_rate_against_a_random_selection(run: RunTables) -> None:
    axes = panel(drawn(run_figures.ranking_figure, run), "Overlap")
    flips = run.rounds["flip_rate_shadow"].drop_nulls().to_numpy()
    np.testing.assert_allclose(series(axes, "1 − flip rate")[:, 1], 1 - flips)
    assert level(axes, "random,\n95 %, in\neach colour") == SELECTED / CANDIDATES


def test_privacy_shows_budget_bound_and_what_each_client_spent(run: RunTables) -> None:
    figure = drawn(run_figures.privacy_figure, run)
    spent = panel(figure, "Privacy spent")
    assert level(spent, "budget") == 6.5
    np.testing.assert_array_equal(series(spent, "largest")[:, 1], [2, 3, 4])
    np.testing.assert_array_equal(series(spent, "mean of clients")[:, 1], [1.5, 2.5, 3.5])
    assert level(panel(figure, "Per-sample"), "bound\nC = 1") == 1.0
    bars = panel(figure, "Privacy spent by each client").patches[0].get_data().values[::2]
    expected = [
        run.clients.filter(pl.col("partition") == client)["epsilon"].max() or 0
        for client in range(CLIENTS_THERE)
    ]
    np.testing.assert_array_equal(bars, np.array(expected, dtype=float))


def test_of_gradients_that_no_client_told_there_are_no_panels(run: RunTables) -> None:
    untold = run.clients.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in ("gradient_norm_median", "clip_fraction")
    )
    figure = drawn(run_figures.privacy_figure, replace(run, clients=untold))
    assert titles(figure) == ["Privacy spent", "Privacy spent by each client"]
    assert "did not leave the clients" in heading(figure)


def test_with_fixed_noise_there_is_no_budget(tmp_path: Path) -> None:
    run = read_tables(write_run(tmp_path / "run", **{"privacy.noise-multiplier": 1.5}))
    figure = drawn(run_figures.privacy_figure, run)
    assert "_budget" not in [line.get_label() for line in panel(figure, "Privacy spent").lines]
    assert "σ = 1.5, largest ε = 4.00" in heading(figure)


def test_selection_counts_rounds_and_says_that_there_is_no_shadow(tmp_path: Path) -> None:
    run = read_tables(write_run(tmp_path / "run", shadow=False))
    figure = drawn(run_figures.selection_figure, run)
    asked, selected = (patch.get_data().values[::2] for patch in panel(figure, "Rounds as").patches)
    assert asked.sum() == 3 * CANDIDATES
    assert selected.sum() == 3 * SELECTED
    for client in range(CLIENTS_THERE):
        rows = run.clients.filter(pl.col("partition") == client)
        assert (asked[client], selected[client]) == (rows.height, rows["selected"].sum())
    assert "No shadow was computed" in heading(figure)


@pytest.mark.parametrize("columns", [1, 2])
def test_every_figure_says_what_was_run(run: RunTables, columns: Columns) -> None:
    for draw in (
        run_figures.summary_figure,
        run_figures.accuracy_figure,
        run_figures.firing_rates_figure,
        run_figures.ranking_figure,
        run_figures.privacy_figure,
        run_figures.aggregation_figure,
    ):
        figure = draw(run).draw(columns, run.describe())
        text = heading(figure)
        assert "Corpus synthetic (synthetic clips)" in text
        assert "record-level DP, ε ≤ 6.5, δ = 1e-05" in text
        assert "5 clients" in text
        assert figure.get_figwidth() == WIDTH_INCHES[columns]


def test_real_clips_are_not_called_synthetic_nor_a_running_run_finished(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", synthetic=False, status="running", **{"run.rounds": 9})
    text = heading(drawn(run_figures.accuracy_figure, read_tables(path)))
    assert "(synthetic clips)" not in text
    assert "running, here with 3 of 9 rounds" in text


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("private", [True, False])
def test_nothing_runs_off_the_page(tmp_path: Path, private: bool, columns: Columns) -> None:
    run = read_tables(write_run(tmp_path / "run", private=private, shadow=False, status="failed"))
    for draw in (run_figures.summary_figure, run_figures.selection_figure):
        figure = draw(run).draw(columns, run.describe())
        with style():
            figure.draw_without_rendering()
            box = figure.get_tightbbox()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.get_figwidth()
        assert box.y1 <= figure.get_figheight()
        lowest = min(text.get_window_extent().y0 for text in figure.texts)
        tallest = max(axes.get_tightbbox().y1 for axes in figure.axes)
        assert tallest <= lowest


def test_series_differ_without_colour() -> None:
    assert len({look.line for look in LOOKS}) == len(LOOKS)
    assert len({look.marker for look in LOOKS}) == len(LOOKS)


def test_all_figures_are_written_in_three_formats_and_twice_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_as = figure_style._save_as
    monkeypatch.setattr(
        figure_style,
        "_save_as",
        lambda figure, path, format_: (
            save_as(figure, path, format_) if ".accuracy" in path.name else path.write_text(format_)
        ),
    )
    path = write_run(tmp_path / "run", rounds=1, private=False, shadow=False)
    font = mpl.rcParams["font.size"], mpl.rcParams["pdf.fonttype"]
    paths, _ = draw_directory(path, tmp_path / "new" / "figures")
    assert (mpl.rcParams["font.size"], mpl.rcParams["pdf.fonttype"]) == font
    assert pyplot.get_fignums() == []
    names = {"summary", "accuracy", "firing-rates", "selection", "aggregation"}
    both = names | {f"{name}-one-column" for name in names}
    assert {p.name for p in paths} == {f"{name}.{ending}" for name in both for ending in FORMATS}
    assert {p.name for p in (tmp_path / "new" / "figures").iterdir()} == {p.name for p in paths}
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    accuracy = [p for p in paths if p.name.startswith("accuracy")]
    assert len(accuracy) == 6
    assert all(p.read_bytes().startswith(starts[p.suffix]) for p in accuracy)
    for again in save(
        drawn(run_figures.accuracy_figure, read_tables(path)), tmp_path / "again", "accuracy"
    ):
        assert again.read_bytes() == (tmp_path / "new" / "figures" / again.name).read_bytes()


def test_text_stays_text_and_fonts_are_embedded(tmp_path: Path, run: RunTables) -> None:
    _, svg, pdf = save(drawn(run_figures.accuracy_figure, run), tmp_path, "accuracy")
    assert ">chance</text>" in svg.read_text(encoding="utf-8")
    assert b"/FontFile2" in pdf.read_bytes()
    assert b"/Type3" not in pdf.read_bytes()


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_drawn_without_what_it_had_not(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    for name, column in (("rounds", "score_reliability"), ("clients", "accuracy_before")):
        file = path / f"{name}.parquet"
        pl.read_parquet(file).drop(column, strict=False).write_parquet(file)
    tables = read_tables(path)
    assert tables.rounds["score_reliability"].null_count() == tables.rounds.height
    assert draw_directory(path, tmp_path / "figures")[0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "run.json").unlink(), "is not a run directory"),
        (lambda path: (path / "layers.parquet").unlink(), r"cannot read .*layers\.parquet"),
        (lambda path: (path / "run.json").write_text('{"status": "failed"}'), "no 'config'"),
        (
            lambda path: pl.DataFrame({"round": [1]}).write_parquet(path / "rounds.parquet"),
            "has no column 'accuracy'",
        ),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path: Path, damage, message: str) -> None:
    path = write_run(tmp_path / "run")
    damage(path)
    with pytest.raises(RunError, match=message) as error:
        draw_directory(path, tmp_path / "figures")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "figures").exists()


def test_a_run_without_a_round_is_an_error(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", rounds=0, status="failed")
    with pytest.raises(RunError, match="has no round to draw: its status is failed"):
        draw_directory(path, tmp_path / "figures")


def test_a_place_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", rounds=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write figures to"):
        draw_directory(path, tmp_path / "file")
