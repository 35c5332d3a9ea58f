"""A saved model is the network that was evaluated, and leaves as NIR only if NIR can hold it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fnl.config import parse_config
from fnl.data.federated import prepare
from fnl.errors import ConfigError, RunError
from fnl.runtime.in_process import run_in_process
from fnl.runtime.run_record import read_run, write_record
from fnl.runtime.saved_model import load_model
from fnl.snn.evaluation import evaluate


@pytest.fixture
def run(small_config) -> Path:
    said = []
    config = parse_config(small_config | {"run.rounds": 1, "evaluation.shadow": False})
    run_in_process(config, notify=said.append)
    return said[0].directory


def test_the_saved_model_is_the_one_that_was_evaluated(run):
    config, network = load_model(run)
    federation = prepare(config, workers=1)
    clips, labels = federation.split_clips("test")
    last = pl.read_parquet(run / "rounds.parquet").row(-1, named=True)
    evaluation = evaluate(network, clips, labels, federation.classes)
    assert evaluation.accuracy == last["accuracy"]
    np.testing.assert_allclose(evaluation.loss, last["loss"], rtol=1e-12)


def test_a_model_that_does_not_fit_is_refused(run):
    (run / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(RunError, match="no model that fits"):
        load_model(run)


def test_an_unfinished_run_has_no_model(run):
    write_record(run, read_run(run) | {"status": "running"})
    with pytest.raises(RunError, match="only a finished run has a model"):
        load_model(run)


def test_what_nir_cannot_hold_is_refused_by_name(run):
    pytest.importorskip("nir", reason="the package nir is not installed")
    from fnl.cli.report import export

    with pytest.raises(ConfigError, match=r"model\.normalisation=none"):
        export(run, None)
    assert not (run / "model.nir").exists()
