"""The recipe of a column of a round: it is what it is declared to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from fnl.columns import real
from fnl.config import parse_config
from fnl.runtime.in_process import run_in_process
from fnl.runtime.tables import ROUNDS, TABLES


def test_a_number_of_the_server_is_its_declaration(small_config, monkeypatch):
    spread = real("rate", "range of rates", of_round=lambda taken: float(np.ptp(rates(taken))))
    classes = real("", "spikes", of_model=lambda model: 1 - model.cost.activation_sparsity)
    monkeypatch.setitem(ROUNDS.columns, "rate_range", spread)
    monkeypatch.setitem(ROUNDS.columns, "activity", classes)

    def rates(taken):
        return [report.firing_rate_after for report in taken.reports]

    run_in_process(parse_config(small_config))
    (run,) = Path(str(small_config["run.results-dir"])).iterdir()
    rounds = pl.read_parquet(run / "rounds.parquet").filter(pl.col("round") > 0)
    by_round = pl.read_parquet(run / "clients.parquet").group_by("round", maintain_order=True)
    rate = pl.col("firing_rate_after")
    assert (
        rounds["rate_range"].to_list()
        == by_round.agg(rate.max() - rate.min())["firing_rate_after"].to_list()
    )
    assert rounds["activity"].to_list() == (1 - rounds["activation_sparsity"]).to_list()
    assert "| `rate_range` | range of rates | rate |" in TABLES["rounds"].markdown()
