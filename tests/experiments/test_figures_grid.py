"""Figures of a grid show what its tables hold, and say why they are left out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from figures_grid import AXES, write_grid
from figures_made_up import SELECTED, write_run
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from scipy import stats

from experiments.figures import catalogue, draw, of_grid
from experiments.figures.accuracy_epsilon import accuracy_against_epsilon
from experiments.figures.audit_bounds import audit_bounds
from experiments.figures.catalogue import LeftOut, draw_all
from experiments.figures.chance import expected_jaccard, overlap_band, tau_band
from experiments.figures.draw import draw_directory
from experiments.figures.grid_tables import GridTables, read_grid
from experiments.figures.heat_maps import heat_maps
from experiments.figures.of_run import read_audit
from experiments.figures.pareto import non_dominated, objectives, pareto_front
from experiments.figures.selection_shares import selection_shares
from experiments.figures.settings import with_levels
from experiments.figures.style import FORMATS, WIDTH_INCHES, style
from fnl.errors import RunError


@pytest.fixture
def grid(made_up_grid: Path) -> GridTables:
    return read_grid(made_up_grid)


def panel(figure: Figure, title: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_title(loc="left").startswith(title))


def line(axes: Axes, label: str) -> np.ndarray:
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return np.asarray(found.get_xydata())


def heading(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def named(entries: list, name: str) -> Figure:
    return next(entry for entry in entries if entry.name == name).sheet().draw()


def test_accuracy_is_the_mean_with_its_interval_and_the_twin_its_own(grid: GridTables) -> None:
    (axes,) = accuracy_against_epsilon(grid.summary).draw().axes
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    assert {bar.get_label() for bar in bars} == {"C = 0.5", "C = 4"}
    rows = grid.summary.filter(pl.col("metric") == "accuracy")
    for bar in bars:
        of_bound = float(str(bar.get_label()).split("= ")[1])
        expected = rows.filter(pl.col("privacy.clip-norm") == of_bound).sort("privacy.epsilon")
        points = np.asarray(bar[0].get_xydata())
        np.testing.assert_allclose(points[:, 0], [1, 8])
        np.testing.assert_allclose(points[:, 1], expected["mean"])
        ends = np.array([segment[:, 1] for segment in bar[2][0].get_segments()])
        np.testing.assert_allclose(ends, expected.select("low", "high").to_numpy())
    twin = rows.filter(pl.col("is_twin")).row(0, named=True)
    np.testing.assert_allclose(line(axes, "no DP")[:, 1], twin["mean"])
    (band,) = [patch for patch in axes.patches if patch.get_alpha() == 0.15]
    box = band.get_path().get_extents(band.get_patch_transform())
    assert (box.y0, box.y1) == pytest.approx((twin["low"], twin["high"]))


def test_further_axes_make_panels_each_with_its_own_twin() -> None:
    keys = {
        "privacy.epsilon": [1.0, 8.0],
        "data.alpha": [0.1, 1.0],
        "coordination.selection": list("abc"),
    }
    rows = [
        {**dict(zip(keys, values, strict=True)), "is_twin": False, "mean": 0.5, "n": 3}
        for values in product(*keys.values())
    ]
    rows += [
        {"privacy.epsilon": None, "data.alpha": alpha, "coordination.selection": rule}
        | {"is_twin": True, "mean": 0.6 + 0.1 * alpha, "n": 3}
        for alpha, rule in product(keys["data.alpha"], "abc")
    ]
    summary = pl.DataFrame(rows, infer_schema_length=None).with_columns(
        metric=pl.lit("accuracy"), low=pl.col("mean") - 0.1, high=pl.col("mean") + 0.1
    )
    figure = accuracy_against_epsilon(summary).draw()
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"selection = {rule}" for rule in "abc"
    ]
    for axes in figure.axes:
        twins = {
            round(float(one.get_ydata()[0]), 6) for one in axes.lines if "no DP" in one.get_label()
        }
        assert twins == {0.61, 0.7}


def test_heat_maps_hold_the_summary_by_budget_and_bound(grid: GridTables) -> None:
    figure = heat_maps(grid.summary).draw()
    sources = {"rate shift": ("firing_rate", "difference"), "attenuation": ("attenuation", "mean")}
    sources |= {"Kendall": ("kendall_tau_shadow", "mean"), "Jaccard": ("jaccard_shadow", "mean")}
    for title, (metric, column) in sources.items():
        axes = panel(figure, title)
        assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "8"]
        assert [text.get_text() for text in axes.get_yticklabels()] == ["4", "0.5"]
        shown = np.asarray(axes.collections[0].get_array()).reshape(2, 2)
        for (row, bound), (place, epsilon) in product(enumerate([4.0, 0.5]), enumerate([1.0, 8.0])):
            (value,) = grid.summary.filter(
                (pl.col("metric") == metric)
                & (pl.col("privacy.epsilon") == epsilon)
                & (pl.col("privacy.clip-norm") == bound)
            )[column]
            assert shown[row, place] == pytest.approx(value)
        texts = [text.get_text() for text in axes.texts]
        assert len(texts) == 4
        assert "-" not in "".join(texts)


def test_the_rate_shift_falls_back_on_the_shadows_without_twins(grid: GridTables) -> None:
    rows = grid.summary.filter(~pl.col("is_twin")).drop("difference")
    metric = pl.col("metric").replace("firing_rate", "rate_shift")
    figure = heat_maps(rows.with_columns(metric)).draw()
    shown = panel(figure, "rate shift").collections[0].get_array()
    expected = rows.filter(pl.col("metric") == "firing_rate")["mean"]
    np.testing.assert_allclose(np.sort(np.ravel(shown)), np.sort(expected))
    with_none = rows.filter(pl.col("metric") != "firing_rate")
    assert "Not measured: rate shift" in heading(heat_maps(with_none).draw())


def test_the_pareto_front_is_what_a_comparison_of_all_pairs_leaves() -> None:
    costs = np.random.default_rng(0).integers(0, 5, (60, 3)).astype(float)
    expected = [
        not any((other <= one).all() and (other < one).any() for other in costs) for one in costs
    ]
    np.testing.assert_array_equal(non_dominated(costs), expected)


def test_pareto_points_are_accuracy_and_energy_and_twins_have_no_budget(grid: GridTables) -> None:
    table = objectives(grid.summary)
    assert table.height == 5
    assert table.filter("is_twin")["epsilon"].to_list() == [float("inf")]
    spent = grid.summary.filter((pl.col("metric") == "epsilon_max") & ~pl.col("is_twin"))
    assert sorted(table.filter(~pl.col("is_twin"))["epsilon"]) == sorted(spent["mean"])
    (axes,) = pareto_front(grid.summary).draw().axes
    filled = [
        c[0]
        for c in axes.containers
        if isinstance(c, ErrorbarContainer) and c[0].get_markerfacecolor() != "white"
    ]
    assert sum(len(line.get_xdata()) for line in filled) == table["on_front"].sum()


def test_rates_by_layer_are_boxes_of_the_last_round(grid: GridTables) -> None:
    (axes,) = named(of_grid.of_grid(grid), "rate-distributions").axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["ε = 1", "ε = 8", "no DP"]
    rows = grid.scan("layers", ["round", "layer", "partition", "firing_rate"]).filter(
        pl.col("partition").is_not_null() & (pl.col("round") == pl.col("round").max())
    )
    expected = [
        rows.filter((pl.col("level") == level) & (pl.col("layer") == layer))["firing_rate"].median()
        for level in ("ε = 1", "ε = 8", "no DP")
        for layer in (0, 1)
    ]
    medians = [one.get_ydata()[0] for one in axes.lines if one.get_linewidth() == 1.4]
    np.testing.assert_allclose(medians, expected)
    assert len({box.get_hatch() for box in axes.patches}) == 3


def test_ranks_are_the_tables_with_nothing_where_not_asked(grid: GridTables) -> None:
    figure = named(of_grid.of_grid(grid), "ranks")
    maps = figure.axes[:2]
    assert [axes.get_title(loc="left") for axes in maps] == [
        "ε = 1, C 0.5, seed 0",
        "no DP, seed 0",
    ]
    run = pl.read_parquet(grid.directory / "cells" / "c0-0" / "clients.parquet")
    drawn = maps[0].collections[0].get_array()
    clients = [int(label.get_text()) for label in maps[0].get_yticklabels()]
    found = {
        (round_, client, int(drawn[row, round_ - 1]))
        for row, client in enumerate(clients)
        for round_ in range(1, drawn.shape[1] + 1)
        if not np.ma.is_masked(drawn[row, round_ - 1])
    }
    assert found == set(run.select("round", "partition", "rank").iter_rows())
    assert drawn.mask.any()
    assert [int(label.get_text()) for label in maps[1].get_yticklabels()] == clients
    colours = [axes.collections[0].get_cmap() for axes in maps]
    middle = [axes.collections[0].norm(SELECTED + 0.5) for axes in maps]
    assert (colours[0].name, middle) == (colours[1].name, [0.5, 0.5])
    means = run.group_by("partition").agg(pl.col("rank").mean()).sort("rank", "partition")
    assert clients == means["partition"].to_list()


def test_the_shift_is_against_the_twin_of_the_same_seed(grid: GridTables) -> None:
    table = of_grid.indicators(grid)
    assert table.height == 8
    for cell, shift in table.select("cell", "rate_shift").iter_rows():
        twin = f"twin-{cell[-1]}"
        own, other = (
            pl.read_parquet(grid.directory / "cells" / name / "rounds.parquet")["firing_rate"][-1]
            for name in (cell, twin)
        )
        assert shift == pytest.approx(own - other)
    figure = named(of_grid.of_grid(grid), "sparsity-memory")
    labels = {axes.get_xlabel() for axes in figure.axes}
    assert {"silent neurons (share)", "membrane autocorrelation (lag 1)"} <= labels
    assert "activation sparsity" not in labels  # it is 1 − the rate
    assert "saturated neurons (share)" not in labels  # it does not vary


def test_predictions_have_the_correlation_of_numpy(grid: GridTables) -> None:
    figure = named(of_grid.of_grid(grid), "predicted-shift")
    names = ["firing_rate_after", "firing_rate_shadow", "predicted_rate_shift"]
    rows = grid.scan("clients", names).drop_nulls(names)
    measured = rows["firing_rate_after"] - rows["firing_rate_shadow"]
    r = np.corrcoef(rows["predicted_rate_shift"], measured)[0, 1]
    assert f"{rows.height} candidates: Pearson r = {r:.2f}" in heading(figure)


def test_privacy_spent_is_the_largest_of_a_level(grid: GridTables) -> None:
    axes = panel(named(of_grid.of_grid(grid), "privacy-spent"), "Client that has spent most")
    np.testing.assert_allclose(line(axes, "ε = 8")[:, 1], 8 * np.arange(1, 7) / 6)
    budgets = {float(one.get_ydata()[0]) for one in axes.lines if one.get_linewidth() == 0.6}
    assert budgets == {1.0, 8.0}


def test_an_audit_shows_which_claim_its_bound_refutes(made_up_grid: Path) -> None:
    (axes,) = audit_bounds(read_audit(made_up_grid)).draw().axes
    refuting = [one for one in axes.lines if one.get_marker() == "X"]
    assert [tuple(one.get_xydata()[0]) for one in refuting] == [(11.5, 1.0)]
    claims = [float(one.get_xdata()[0]) for one in axes.lines if one.get_marker() == "|"]
    assert claims == [8.0, 8.0, 4.0]


def test_clients_are_ordered_by_how_often_they_were_selected() -> None:
    clients = pl.DataFrame(
        {"round": [1, 1, 2, 2], "partition": [0, 2, 0, 2], "selected": [False, True, True, True]}
    )
    counts = pl.DataFrame({"partition": [0, 1, 2], "yes": [3, 1, 0], "no": [1, 1, 4]})
    bars, labels, _ = selection_shares(clients, counts).draw().axes
    assert [text.get_text() for text in bars.get_yticklabels()] == ["2", "0", "1"]
    assert [bar.get_width() for bar in bars.patches] == [1.0, 0.5, 0.0]
    shares = np.asarray(labels.collections[0].get_array()).reshape(3, 2)
    np.testing.assert_allclose(shares, [[0, 1], [0.75, 0.25], [0.5, 0.5]])
    assert [text.get_text() for text in bars.texts] == ["of 2", "of 2", "–"]


def test_labels_that_all_hold_evenly_are_no_map_but_a_sentence() -> None:
    clients = pl.DataFrame({"round": 1, "partition": [0, 1], "selected": [True, False]})
    counts = pl.DataFrame({"partition": [0, 1], "yes": [50, 46], "no": [50, 54]})
    even = selection_shares(clients, counts).draw()
    assert len(even.axes) == 1
    assert "each 46 to 54 % of its clips" in heading(even)
    skewed = selection_shares(clients, counts.with_columns(no=pl.Series([50, 70]))).draw()
    assert len(skewed.axes) == 3
    assert "evenly" not in heading(skewed)


def test_thousands_of_clients_are_drawn_as_few_shapes() -> None:
    many = 2_500  # two or three to a row
    clients = pl.DataFrame({"round": 1, "partition": range(many)}).with_columns(
        selected=pl.col("partition") < many // 2
    )
    counts = pl.DataFrame({"partition": range(many), "yes": 1, "no": 3})
    bars, labels, _ = selection_shares(clients, counts).draw().axes
    assert [len(bars.patches), len(labels.collections)] == [1, 1]
    values = bars.patches[0].get_data().values
    np.testing.assert_allclose(values, np.repeat([1.0, 0.0], 500))
    np.testing.assert_allclose(labels.collections[0].get_array().reshape(1000, 2)[:, 0], 0.25)
    names = [int(text.get_text()) for text in labels.get_yticklabels()]
    np.testing.assert_allclose(labels.get_yticks() - 0.5, np.array(names) * 1000 / many)


def test_what_is_absent_is_left_out_with_its_reason(tmp_path: Path) -> None:
    root = tmp_path / "bare"

    def bare(name: str, settings: object) -> None:
        write_run(root / "cells" / name, {**dict(settings), "evaluation.shadow": False})  # type: ignore[call-overload]

    write_grid(root, bare, axes={"privacy.clip-norm": [1.0, 2.0]}, seeds=(0,), twins=False)
    drawn, gaps = draw_all(of_grid.of_grid(read_grid(root)))
    assert {one.name for one in drawn} == {"ranks", "privacy-spent", "learning-curves"}
    reasons = {gap.name: gap.reason for gap in gaps}
    assert reasons["accuracy-epsilon"] == "the grid's summary has no privacy.epsilon"
    assert "no value of predicted_rate_shift" in reasons["predicted-shift"]
    assert reasons["audit"] == "no audit was run: there is no audit.parquet"
    assert "not cached" in reasons["selection-shares"]
    assert "all rates are of with DP" in reasons["rate-distributions"]


def test_learning_curves_are_means_over_seeds_with_the_twin_in_every_panel(
    grid: GridTables,
) -> None:
    figure = named(of_grid.of_grid(grid), "learning-curves")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["C = 0.5", "C = 4"]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    rows = grid.scan("rounds", ["round", "accuracy"])
    for axes, bound in zip(figure.axes, (0.5, 4.0), strict=True):
        chosen = {"ε = 8": rows.filter(level="ε = 8").filter(pl.col("privacy.clip-norm") == bound)}
        chosen["no DP"] = rows.filter("is_twin")
        for label, of_level in chosen.items():
            means = of_level.group_by("round").agg(pl.col("accuracy").mean()).sort("round")
            np.testing.assert_allclose(line(axes, label)[:, 1], means["accuracy"])


def test_a_grid_without_privacy_has_no_line_called_with_dp(tmp_path: Path) -> None:
    root = tmp_path / "bare"
    without = {"privacy.mode": "none", "evaluation.shadow": False}

    def make(name: str, settings: Mapping[str, object]) -> None:
        write_run(root / "cells" / name, {**settings, **without})

    write_grid(root, make, axes={"data.alpha": [0.1, 1.0]}, seeds=(0,), twins=False)
    figure = named(of_grid.of_grid(read_grid(root)), "learning-curves")
    for axes in figure.axes:
        (legend,) = axes.get_legend().get_texts()
        assert legend.get_text() == "no DP"


def test_keys_that_go_together_are_one_axis(grid: GridTables) -> None:
    together = (pl.col("privacy.clip-norm") * 2).alias("coordination.candidates")
    figure = accuracy_against_epsilon(grid.summary.with_columns(together)).draw()
    assert len(figure.axes) == 1


def test_panels_of_a_figure_share_their_scale(grid: GridTables) -> None:
    rule = pl.when(pl.col("privacy.clip-norm") == 4).then(pl.lit("a")).otherwise(pl.lit("b"))
    rows = grid.summary.with_columns(rule.alias("coordination.selection"))
    doubled = pl.concat([rows, rows.with_columns(pl.col("privacy.clip-norm") + 1)])
    limits = {axes.get_ylim() for axes in accuracy_against_epsilon(doubled).draw().axes}
    assert len(limits) == 1


def test_scales_of_heat_maps_are_fixed_and_chance_is_marked(grid: GridTables) -> None:
    figure = heat_maps(grid.summary, (6, 3)).draw()
    assert panel(figure, "Kendall τ").collections[0].get_clim() == (-1, 1)
    assert panel(figure, "rate shift").collections[0].get_clim() == (-0.05, 0.05)
    assert "random rankings, means of 2 runs, lie within ±0.49 (95 %)" in heading(figure)


def test_energies_that_do_not_differ_make_no_front(grid: GridTables) -> None:
    same = pl.when(metric="energy_nj").then(40.0 + pl.col("mean") / 1e3).otherwise(pl.col("mean"))
    with pytest.raises(LeftOut, match="same energy within 2 %"):
        pareto_front(grid.summary.with_columns(mean=same))


def test_chance_is_that_of_random_permutations() -> None:
    draw = np.random.default_rng(0)
    taus = [stats.kendalltau(np.arange(12), draw.permutation(12)).statistic for _ in range(4000)]
    assert np.mean(np.abs(taus) <= tau_band(12)) == pytest.approx(0.95, abs=0.01)
    chosen = [set(draw.choice(12, 5, replace=False)) for _ in range(4000)]
    common = np.array([len(one & chosen[0]) for one in chosen])
    assert (common / (10 - common)).mean() == pytest.approx(expected_jaccard(12, 5), abs=0.01)
    low, high = overlap_band(12, 5)
    assert np.mean((common / 5 >= low) & (common / 5 <= high)) >= 0.95


def test_a_single_bound_is_no_heat_map(grid: GridTables) -> None:
    one = grid.summary.filter(pl.col("is_twin") | (pl.col("privacy.clip-norm") == 4))
    with pytest.raises(LeftOut, match="clip-norm has a single value"):
        heat_maps(one)


@pytest.mark.parametrize("columns", [1, 2])
def test_nothing_runs_off_the_page(
    grid: GridTables, columns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "COLUMNS", (columns,))
    drawn, gaps = draw_all(of_grid.of_grid(grid), grid.describe())
    assert [gap.name for gap in gaps] == ["selection-shares"]
    for one in drawn:
        figure = one.figures[columns]
        assert figure.get_figwidth() == WIDTH_INCHES[columns]
        with style():
            figure.draw_without_rendering()
            box = figure.get_tightbbox()
        edge = 0.02  # an inch's share that antialiasing may use
        assert box.x0 >= -edge, one.name
        assert box.y0 >= -edge, one.name
        assert box.x1 <= figure.get_figwidth() + edge, one.name
        assert box.y1 <= figure.get_figheight() + edge, one.name


def test_levels_run_from_the_strictest_to_none() -> None:
    table = pl.DataFrame({"is_twin": [True, False, False], "privacy.epsilon": [None, 8.0, 0.5]})
    levels = with_levels(table)
    assert levels.sort("level_order")["level"].to_list() == ["ε = 0.5", "ε = 8", "no DP"]
    noise = with_levels(pl.DataFrame({"is_twin": [False] * 2, "privacy.noise-multiplier": [1, 2]}))
    assert noise.sort("level_order")["level"].to_list() == ["σ = 2", "σ = 1"]
    modes = with_levels(pl.DataFrame({"is_twin": [False] * 2, "privacy.mode": ["none", "record"]}))
    assert modes["level"].to_list() == ["no DP", "with DP"]


def test_cells_that_failed_are_not_drawn(made_up_grid: Path, tmp_path: Path) -> None:
    for path in made_up_grid.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "cells.parquet").unlink()
    cells = pl.read_parquet(made_up_grid / "cells.parquet")
    failed = pl.when(pl.col("cell") == "c0-0").then(pl.lit("failed")).otherwise("status")
    cells.with_columns(status=failed).write_parquet(tmp_path / "cells.parquet")
    grid = read_grid(tmp_path)
    assert "c0-0" not in grid.scan("rounds", ["round"])["cell"]
    assert "9 of 10 cells" in grid.describe()[0]


def test_all_formats_of_both_widths_are_written(
    made_up_grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the first three and the last, which is left out: writing takes as long for each
    monkeypatch.setattr(
        draw, "of_grid", lambda grid: [*of_grid.of_grid(grid)[:3], *of_grid.of_grid(grid)[-1:]]
    )
    few = read_grid(made_up_grid).summary.filter(pl.col("metric") == "accuracy")
    assert few.height == 5
    root = tmp_path / "small"
    run = {"privacy.epsilon": [1.0]}
    write_grid(
        root, lambda n, s: write_run(root / "cells" / n, s), axes=run, seeds=(0,), twins=False
    )
    (root / "summary.parquet").unlink()
    few.drop("level", "level_order").write_parquet(root / "summary.parquet")
    paths, gaps = draw_directory(root, tmp_path / "figures")
    names = {path.stem for path in paths}
    assert "accuracy-epsilon" in names
    assert names == {n for n in names if n.endswith("-one-column")} | {
        n.removesuffix("-one-column") for n in names
    }
    assert {path.suffix[1:] for path in paths} == set(FORMATS)
    assert len(paths) == 3 * len(names)
    assert names.isdisjoint(gap.name for gap in gaps)
    assert "audit" in {gap.name for gap in gaps}
    pdf = (tmp_path / "figures" / "accuracy-epsilon.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "summary.parquet").unlink(), "has no summary.parquet yet: `fnl grid"),
        (lambda path: (path / "cells.parquet").write_text("x"), "cannot read the table"),
        (
            lambda path: pl.DataFrame({"cell": ["a"]}).write_parquet(path / "results.parquet"),
            "has no column 'seed'",
        ),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(
    made_up_grid: Path, tmp_path: Path, damage, message: str
) -> None:
    for name in ("cells", "results", "summary"):
        source = made_up_grid / f"{name}.parquet"
        (tmp_path / source.name).write_bytes(source.read_bytes())
    damage(tmp_path)
    with pytest.raises(RunError, match=message) as error:
        draw_directory(tmp_path, tmp_path / "figures")
    assert "\n" not in str(error.value)


def test_axes_of_the_written_grid(grid: GridTables) -> None:
    assert grid.axes == tuple(AXES)
