"""What no ledger covers decides nothing: not even whether a client's reply is taken."""

from __future__ import annotations

import math

import polars as pl
import pytest
from flwr.app import MetricRecord

from fnl.config import parse_config
from fnl.runtime.in_process import run_in_process
from fnl.wire import exchange
from fnl.wire.fields import Cover
from fnl.wire.report import ENTRIES
from tests.runs import path_of

RELEASED = {"privacy.rate-release": "gaussian", "privacy.rate-epsilon": 2.0}


def run(flat, change=lambda record: None):
    """Run with what every client says changed by `change`; return tables and model's hash."""

    def on_reply(reply):
        if reply.metadata.message_type == "train":
            record = reply.content[exchange.METRICS]
            assert isinstance(record, MetricRecord)
            change(record)

    config = parse_config(flat)
    run_in_process(config, on_reply=on_reply, notify=lambda _: None)
    path = path_of(flat)
    faults = pl.read_parquet(path / "faults.parquet")
    return (
        pl.read_parquet(path / "rounds.parquet"),
        faults,
        (path / "model.safetensors").read_bytes(),
    )


@pytest.mark.parametrize("cover", [Cover.OUTSIDE, Cover.SIMULATION])
def test_an_unusable_number_that_no_ledger_covers_changes_no_model(small_config, cover):
    flat = {**small_config, **RELEASED, "evaluation.floor": True}
    before, _, model = run({**flat, "run.name": "as-it-is"})

    def spoil(record):
        for name, entry in ENTRIES.items():
            wire = name.replace("_", "-")
            if entry.cover is cover and wire in record and name != "seconds":  # a clock's
                value = record[wire]
                if isinstance(value, int):
                    continue
                record[wire] = [math.inf] * len(value) if isinstance(value, list) else math.nan

    rounds, faults, spoilt = run({**flat, "run.name": "spoilt"}, spoil)
    assert spoilt == model
    assert faults.is_empty()
    same = ["round", "accuracy", "firing_rate", "update_norm", "epsilon_max"]
    assert rounds.select(same).equals(before.select(same))
    shadows = rounds["kendall_tau_shadow"].null_count() == len(rounds)
    assert shadows == (cover is Cover.SIMULATION)


def test_a_shadow_that_diverges_leaves_the_round_without_one(small_config):
    diverging = {
        **small_config, **RELEASED, "training.optimizer": "sgd", "training.learning-rate": 1e30,
        "privacy.clip-norm": 1e-30, "run.rounds": 1,
    }  # fmt: skip
    models = []
    for shadow in (False, True):
        flat = {**diverging, "evaluation.shadow": shadow, "run.name": f"shadow-{shadow}"}
        rounds, faults, model = run(flat)
        assert faults.is_empty()
        models.append(model)
    assert models[0] == models[1]
    assert rounds["attenuation"].null_count() == len(rounds)
