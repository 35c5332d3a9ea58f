"""The study of spiking and rectified networks: its table, its figure, and cells kept."""

import polars as pl
import pytest
from scipy import stats

from experiments.protect import (
    ACTIVATIONS,
    BASE,
    EPSILONS,
    MEASURES,
    draw,
    main,
    markdown,
    play,
    summary,
)
from fnl.config import parse_config
from fnl.snn.network import build_network


@pytest.fixture
def rows() -> pl.DataFrame:
    """Three seeds whose values are seed / 10, of the twin one more."""
    return pl.DataFrame(
        [
            {"measure": key, "value": seed / 10 + (name == "relu"), "seed": seed,
             "activation": name, "epsilon": epsilon}
            for key in (*MEASURES, "control: mean of the word")
            for epsilon in EPSILONS for name in ACTIVATIONS for seed in (1, 2, 3)
        ]
    )  # fmt: skip


def test_intervals_are_students_over_seeds(rows):
    found = summary(rows).filter(measure="bound", epsilon=8.0, activation="relu").row(0, named=True)
    half = stats.t.ppf(0.975, 2) * 0.1 / 3**0.5
    assert (found["mean"], found["high"]) == pytest.approx((1.2, 1.2 + half))
    line = next(one for one in markdown(rows).splitlines() if MEASURES["bound"] in one)
    assert line.split("|")[2:4] == [f" 0.20 ± {half:.2f} ", f" 1.20 ± {half:.2f} "]


def test_one_seed_has_no_interval(rows):
    line = markdown(rows.filter(seed=2)).splitlines()[2]
    assert "±" not in line
    assert " 0.20 | 1.20 " in line


def test_a_figure_is_drawn_of_what_is_there(rows, tmp_path):
    draw(rows.filter(pl.col("epsilon") != 2), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_a_figure_that_cannot_be_drawn_is_refused_before_any_work(tmp_path, capsys):
    for name in ("figure.gif", "nowhere/figure.png"):
        assert main(["--output", str(tmp_path / "out"), "--figure", str(tmp_path / name)]) == 1
        assert "cannot draw" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_figure_may_stand_in_the_folder_of_the_study(rows, tmp_path, monkeypatch):
    def played(_keys, _seeds, output, _epsilons):
        output.mkdir()
        return rows

    monkeypatch.setattr("experiments.protect.play", played)
    out = tmp_path / "out"
    assert main(["--output", str(out), "--figure", str(out / "figure.png")]) == 0
    assert (out / "figure.png").exists()


def test_finished_cells_are_read(rows, tmp_path):
    for epsilon in EPSILONS:
        for name in ACTIVATIONS:
            cell = rows.filter(seed=2, epsilon=epsilon, activation=name)
            cell.select("measure", "value").write_parquet(
                tmp_path / f"{name}-{epsilon:g}-2.parquet"
            )
    found = play(BASE, [2], tmp_path)
    assert found.sort(found.columns).equals(
        rows.filter(seed=2).select(found.columns).sort(found.columns)
    )


def test_both_networks_have_the_same_numbers_to_train():
    sizes = set()
    for name in ACTIVATIONS:
        config = parse_config({**BASE, "data.root": "unused", "model.activation": name})

        network = build_network(config.model, 40, 4, seed=0)
        sizes.add(sum(p.numel() for p in network.parameters() if p.requires_grad))
    assert len(sizes) == 1
