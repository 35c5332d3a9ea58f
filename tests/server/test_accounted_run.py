"""A whole run: everyone who was asked pays, selected or not, and only once a round."""

from __future__ import annotations

import polars as pl
import pytest
from opacus.accountants import RDPAccountant

from fnl.config import parse_config
from fnl.privacy.ledger import RDP_ORDERS
from fnl.runtime.in_process import run_in_process
from fnl.schedule import candidates

ROUNDS = 4


def run(flat) -> tuple[pl.DataFrame, pl.DataFrame]:
    said = []
    config = parse_config({**flat, "run.rounds": ROUNDS})
    run_in_process(config, notify=said.append)
    path = said[0].directory
    return pl.read_parquet(path / "rounds.parquet"), pl.read_parquet(path / "clients.parquet")


def test_candidates_that_were_not_selected_pay_like_the_others(small_config):
    release = {"privacy.rate-release": "gaussian", "privacy.rate-epsilon": 2.0}
    rounds, clients = run({**small_config, **release, "evaluation.shadow": False})
    accountants = [RDPAccountant() for _ in range(4)]
    for server_round in range(1, ROUNDS + 1):
        rows = clients.filter(pl.col("round") == server_round)
        assert sorted(rows["partition"]) == candidates(0, server_round, 4, 3).tolist()
        for row in rows.iter_rows(named=True):
            spent = accountants[row["partition"]]
            for _ in range(row["steps"]):
                spent.step(noise_multiplier=row["noise_multiplier"], sample_rate=row["sample_rate"])
            released = row["rate_noise"] * row["num_examples"] / 0.5
            spent.step(noise_multiplier=released, sample_rate=1.0)
            expected, _ = spent.get_privacy_spent(delta=1e-5, alphas=RDP_ORDERS)
            assert row["epsilon"] == pytest.approx(expected, rel=1e-9)
    assert set(clients.filter(~pl.col("selected"))["partition"])
    assert clients["rate_released"].all()
    assert 7.9 < rounds["epsilon_max"][-1] <= 8


def test_a_strict_run_writes_nulls_where_nothing_was_sent(small_config):
    strict = {
        "run.strict-privacy": True, "evaluation.shadow": False, "privacy.mode": "both",
        "coordination.selection": "random", "coordination.aggregation": "fedavg",
    }  # fmt: skip
    rounds, clients = run({**small_config, **strict})
    withheld = [
        "firing_rate_before", "firing_rate_after", "train_loss", "seconds", "clip_fraction",
        "gradient_norm_median", "gradient_norm_q10", "gradient_norm_q90",
    ]  # fmt: skip
    for column in withheld:
        assert clients[column].null_count() == len(clients), column
    assert clients["epsilon"].null_count() == 0
    assert (rounds["epsilon_client"].diff().drop_nulls() >= 0).all()
    assert 7.9 < rounds["epsilon_client"][-1] <= 8
