"""A run's tables agree with each other, and with what SciPy makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from fnl.config import parse_config
from tests.runs import run_here

ALL = {
    "evaluation.floor": True,
    "evaluation.sensitivity": True,
    "training.optimizer": "sgd",
    "training.learning-rate": 0.05,
    "run.rounds": 3,
}
BY_CHANCE_OF_THE_MACHINE = ["seconds"]


def run(flat, workers: int = 1) -> Path:
    return run_here(parse_config(flat).flat(), workers=workers)[0].directory


def tables(path: Path) -> dict[str, pl.DataFrame]:
    names = ("rounds", "clients", "layers")
    return {
        name: pl.read_parquet(path / f"{name}.parquet").drop(BY_CHANCE_OF_THE_MACHINE, strict=False)
        for name in names
    }


@pytest.fixture(scope="module")
def measured(small_settings, tmp_path_factory) -> dict[str, pl.DataFrame]:
    results = {"run.results-dir": str(tmp_path_factory.mktemp("measured"))}
    return tables(run(small_settings | results | ALL))


def test_every_shift_is_what_the_rates_beside_it_say(measured):
    rounds, clients, layers = measured["rounds"], measured["clients"], measured["layers"]
    after, shadow = clients["firing_rate_after"], clients["firing_rate_shadow"]
    np.testing.assert_allclose(clients["rate_shift"], after - shadow, atol=1e-15)
    own = layers.filter(pl.col("partition").is_not_null())
    np.testing.assert_allclose(
        own["rate_shift"], own["firing_rate"] - own["firing_rate_shadow"], atol=1e-15
    )
    trained = layers.filter(pl.col("round") > 0)
    assert (trained["rate_shift"].abs() <= trained["rate_shift_distance"] + 1e-12).all()
    assert (trained["rate_shift_distance"] <= trained["rate_shift_neurons"] + 1e-12).all()
    assert (trained["rate_shift_neurons"] > 0).all()
    by_round = clients.group_by("round", maintain_order=True).agg(
        shift=pl.col("rate_shift").mean(),
        absolute=pl.col("rate_shift").abs().mean(),
        classes=pl.col("rate_shift_classes").mean(),
        floor=(pl.col("firing_rate_floor") - pl.col("firing_rate_shadow")).mean(),
    )
    said = rounds.filter(pl.col("round") > 0)
    np.testing.assert_allclose(said["rate_shift"], by_round["shift"])
    np.testing.assert_allclose(said["rate_shift_absolute"], by_round["absolute"])
    np.testing.assert_allclose(said["rate_shift_classes"], by_round["classes"])
    np.testing.assert_allclose(said["rate_shift_floor"], by_round["floor"])
    distance = own.group_by("round", maintain_order=True).agg(pl.col("rate_shift_distance").mean())
    np.testing.assert_allclose(said["rate_shift_distance"], distance["rate_shift_distance"])


def test_the_global_shift_is_the_neuron_weighted_mean_of_its_layers(measured):
    layers = measured["layers"].filter(pl.col("partition").is_null() & (pl.col("round") > 0))
    shifts = layers.group_by("round", maintain_order=True).agg(
        ((pl.col("rate_shift") * pl.Series([24, 16])).sum() / 40).alias("shift")
    )
    said = measured["rounds"].filter(pl.col("round") > 0)
    np.testing.assert_allclose(said["rate_shift_global"], shifts["shift"], atol=1e-12)
    assert said["accuracy_shadow"].null_count() == 0
    assert (layers["membrane_variance"] > 0).all()
    assert layers["membrane_autocorrelation"].is_between(-1, 1).all()


def test_rankings_and_participation_follow_from_the_table_of_clients(measured):
    clients, last, counts = measured["clients"], {}, np.zeros(4)
    for row in measured["rounds"].filter(pl.col("round") > 0).iter_rows(named=True):
        asked = clients.filter(pl.col("round") == row["round"])
        scores = dict(asked.select("partition", "score").iter_rows())
        known = [partition for partition in scores if partition in last]
        assert row["candidates_previous"] == len(known)
        if len(known) >= 2:
            now, then = [scores[p] for p in known], [last[p] for p in known]
            assert row["kendall_tau_previous"] == pytest.approx(stats.kendalltau(now, then)[0])
        last |= scores
        for partition in asked.filter("selected")["partition"]:
            counts[partition] += 1
        differences = np.abs(counts[:, None] - counts).mean()
        assert row["selection_gini"] == pytest.approx(differences / (2 * counts.mean()))
        assert row["selected_share"] == (counts > 0).mean()
        best = sorted(scores.values(), reverse=True)
        assert row["score_margin"] == best[1] - best[2]
        floor, shadow = asked["score_floor"].to_list(), asked["score_shadow"].to_list()
        assert row["kendall_tau_floor"] == pytest.approx(stats.kendalltau(floor, shadow)[0])
        assert (row["kendall_tau_floor"] < 1) or (floor != shadow)


@pytest.mark.slow
def test_all_measurements_are_the_same_bits_with_two_workers_and_leave_the_model_alone(
    small_config,
):
    flat = small_config | ALL | {"run.rounds": 2}
    one, two = run(flat), run(flat, workers=2)
    for name, table in tables(one).items():
        assert table.equals(tables(two)[name], null_equal=True), name
    without = dict.fromkeys(("evaluation.floor", "evaluation.sensitivity"), False)
    plain = run(flat | without | {"evaluation.shadow": False})
    records = [json.loads((path / "run.json").read_text()) for path in (one, two, plain)]
    assert len({record["model_sha256"] for record in records}) == 1
    assert all(record["peak_memory_bytes"] > 1 << 26 for record in records)
    predicted = tables(one)["clients"]["predicted_rate_shift_sd"]
    assert (predicted > 0).all()
    # what does not apply is null, not 0
    bare = tables(plain)
    for name, table in bare.items():
        for column in table.columns:
            if "shadow" in column or "floor" in column or column.startswith(("rate_shift", "pred")):
                assert table[column].null_count() == len(table), (name, column)
    assert bare["rounds"]["attenuation"].null_count() == len(bare["rounds"])
