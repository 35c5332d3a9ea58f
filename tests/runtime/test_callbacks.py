"""Trackers are told of every round; one that fails is left out and the run goes on."""

from __future__ import annotations

import logging
import sys

import pytest

from fnl.config import parse_config
from fnl.errors import ConfigError
from fnl.runtime.callbacks import check_callbacks
from fnl.runtime.run_directory import RunDirectory


class Kept:
    """A callback that keeps what it is told."""

    told: list[tuple] = []  # noqa: RUF012 shared on purpose

    def on_start(self, path, config, done):
        self.told.append(("start", path.name, config.run.seed, done))

    def on_round(self, row):
        self.told.append(("round", row["round"], dict(row)))

    def on_end(self, record):
        self.told.append(("end", record["status"]))


class Broken(Kept):
    def on_round(self, row):
        raise OSError("the tracker\nis gone")


@pytest.fixture
def carried(tmp_path):
    """Return a function that carries a run of two rounds under the given callbacks."""

    def carry(**keys):
        flat = {f"run.{key}": value for key, value in keys.items()}
        config = parse_config({"run.results-dir": str(tmp_path), "run.name": "mine", **flat})
        check_callbacks(config)
        directory = RunDirectory.open(config, engine="test", metadata={})
        for number, accuracy in enumerate((0.1, 0.5)):
            directory.add({"round": number, "accuracy": accuracy, "epsilon_max": None}, [], [])
        directory.fail("stopped")
        return directory.path

    Kept.told = []
    return carry


def test_a_callback_of_one_s_own_is_told_of_start_rounds_and_end(carried):
    carried(callbacks=f"{__name__}:Kept", seed=3)
    assert Kept.told == [
        ("start", "mine", 3, 0),
        ("round", 0, {"round": 0, "accuracy": 0.1}),
        ("round", 1, {"round": 1, "accuracy": 0.5}),
        ("end", "failed"),
    ]


def test_one_that_fails_is_left_out_and_the_others_go_on(carried, caplog):
    with caplog.at_level(logging.WARNING):
        carried(callbacks=f"{__name__}:Broken, {__name__}:Kept")
    assert [one[0] for one in Kept.told] == ["start", "start", "round", "round", "end"]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.endswith("Broken failed and is left out: the tracker is gone")


def test_what_cannot_be_made_is_refused_before_any_work(monkeypatch):
    with pytest.raises(ConfigError, match="'tensorbord' is unknown: choose of tensorboard, mlflow"):
        check_callbacks(parse_config({"run.callbacks": "tensorbord"}))
    with pytest.raises(ConfigError, match="cannot import nowhere"):
        check_callbacks(parse_config({"run.callbacks": "nowhere:Tracker"}))
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr("fnl.runtime.callbacks.find_spec", lambda name: None)
    for flat in ({"run.tensorboard": True}, {"run.callbacks": "tensorboard"}):
        with pytest.raises(ConfigError, match=r"pip install 'fnl\[tensorboard\]'"):
            check_callbacks(parse_config(flat))


def test_tensorboard_gets_scalars(carried):
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = carried(tensorboard=True)
    events = EventAccumulator(str(path / "tensorboard"))
    events.Reload()
    scalars = events.Scalars("rounds/accuracy")
    assert [(one.step, round(one.value, 6)) for one in scalars] == [(0, 0.1), (1, 0.5)]


def test_mlflow_gets_parameters_and_metrics(carried, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the package mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    path = carried(callbacks="mlflow")
    client = mlflow.MlflowClient()
    run = client.get_run((path / "mlflow-run-id").read_text())
    assert run.info.status == "FAILED"
    assert run.data.params["privacy.epsilon"] == "8.0"
    history = client.get_metric_history(run.info.run_id, "accuracy")
    assert [(one.step, one.value) for one in history] == [(0, 0.1), (1, 0.5)]


def test_weights_and_biases_gets_a_run_offline(carried, monkeypatch):
    pytest.importorskip("wandb", reason="the package wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    path = carried(callbacks="wandb")
    (folder,) = (path / "wandb").glob("offline-run-*")
    assert list(folder.glob("*.wandb"))
