"""Runs that start from public weights, train a part of them, and evaluate an average."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import clients.app
from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.errors import ConfigError, FnlError, RunError
from fnl.interchange.pretrained import load_pretrained
from fnl.runtime.run_directory import read_run
from fnl.runtime.saved_model import load_model
from fnl.snn.evaluation import evaluate
from fnl.weights import Weights, set_weights, weights_hash
from server.average import moved
from tests.faults.killing import run_and_kill
from tests.runs import (
    assert_same_run,
    directory_of,
    fnl,
    model_of,
    path_of,
    run_here,
    settings,
    table,
)
from tests.training.starts import public_weights

PART = {"training.trained": "readout+norm"}
STEPS = {"training.batch-size": 0, "training.steps": 2}
VIEWS = {"training.augmentation": True, "training.views": 2}
AVERAGE = {"evaluation.average": 0.5}


@pytest.fixture
def flat(small_config):
    keys = {"run.name": "run", "model.hidden": "12,8", "evaluation.shadow": False}
    return {**small_config, "data.mel-bins": 8, "data.frame-hop-ms": 50, **keys}


@pytest.fixture
def public(flat, tmp_path):
    """Return a function that writes public weights: a file, and what is in it."""

    def written(words: str = "core", **known: object) -> tuple[str, Weights]:
        keys = {"data.words": words, "run.seed": 5, "data.corpus-seed": 9}
        config = parse_config({**flat, **keys})
        path = tmp_path / "public.safetensors"
        return str(path), public_weights(path, config, open_federation(config), **known)

    return written


def model_file(flat) -> Weights:
    return safetensors.numpy.load_file(path_of(flat) / "model.safetensors")


def test_a_run_starts_there_and_says_so(flat, public):
    path, weights = public()
    run_here({**flat, "model.initial": path})
    record = read_run(path_of(flat))
    assert record["initial"]["sha256"] == weights_hash(weights)
    assert record["initial"]["corpus"] == "synthetic"
    assert record["initial"]["labels_drawn"] == []
    assert "nobody's clips" in record["initial"]["privacy_cost"]
    assert "costs nothing if its corpus is public" in record["privacy"]["guarantee"]
    assert not [w for w in record["privacy"]["warnings"] if "model.initial" in w]
    config = parse_config({**flat, "model.initial": path})
    federation = open_federation(config)
    first = table(flat, "rounds").row(0, named=True)
    network = load_model(path_of(flat))[1]
    set_weights(network, weights)
    found = evaluate(network, *federation.split_clips("test"), federation.classes)
    assert (first["round"], first["accuracy"]) == (0, found.accuracy)


def test_what_the_corpus_of_the_start_may_tell_is_a_warning(flat, public):
    path, _ = public(synthetic=False)
    run_here({**flat, "model.initial": path})
    record = read_run(path_of(flat))
    assert "no ε here covers what it knows of them" in str(record["privacy"]["warnings"])
    assert "nothing if 'synthetic' is public and holds no clip" in record["initial"]["privacy_cost"]
    own = {"run.name": "own", "data.corpus-seed": 9, "model.initial": path}
    run_here({**flat, **own})
    warnings = read_run(path_of({**flat, **own}))["privacy"]["warnings"]
    assert "voices of data.corpus-seed = 9" in str(warnings)


def test_a_part_is_trained_and_sent_and_the_model_is_whole(flat, public):
    path, weights = public("up,no,left,right,cat")
    whole = {**flat, "model.initial": path}
    part = {**whole, **PART, "run.name": "part"}
    run_here(whole)
    run_here(part)
    config = parse_config(part)
    model = model_file(part)
    assert model.keys() == model_file(whole).keys()
    for name, value in model.items():
        moves = name.startswith(("readout", "norm"))
        same = value.shape == weights[name].shape and (value == weights[name]).all()
        assert same != moves, name
    for direction in ("bytes_up", "bytes_down"):
        sent = [table(one, "rounds")[direction].drop_nulls().sum() for one in (part, whole)]
        assert sent[0] < sent[1] / 1.4, direction
    assert load_model(path_of(part))[0] == config
    record = read_run(path_of(part))
    assert record["initial"]["labels_drawn"] == ["yes", "down", "on", "off", "stop", "go"]
    assert "of readout+norm alone" in record["privacy"]["guarantee"]
    assert record["model_sha256"] == weights_hash(model)


def test_a_finished_run_is_a_start_and_says_what_it_was(flat):
    run_here({**flat, **AVERAGE})
    first = path_of(flat)
    weights, origin = load_pretrained(str(first))
    assert origin.sha256 == weights_hash(weights) == read_run(first)["model_sha256"]
    assert "(ε, 1e-05)-DP" in origin.privacy
    accuracy = table(flat, "rounds").row(-1, named=True)["accuracy"]
    assert (origin.accuracy, origin.split, origin.before) == (accuracy, "test", "")
    second = {**flat, "run.name": "second", "model.initial": str(first)}
    run_here(second)
    assert load_pretrained(str(path_of(second)))[1].before == origin.sha256
    assert table(second, "rounds").row(0, named=True)["accuracy"] == accuracy


BAD = {
    "no file": ({"model.initial": "/nowhere"}, "is neither a finished run nor a file"),
    "no such part": ({"training.trained": "head"}, "'head' is the beginning of no parameter"),
    "other network": ({"model.hidden": "9"}, "model.hidden = '9' does not fit model.initial"),
    "views alike": ({"training.views": 2}, "training.views = 2 needs views that differ"),
    "average of a shadow": (
        {**AVERAGE, "evaluation.shadow": True},
        "evaluation.average evaluates another model than evaluation.shadow",
    ),
}


@pytest.mark.parametrize(("keys", "message"), BAD.values(), ids=BAD)
def test_what_does_not_fit_leaves_nothing(flat, public, keys, message):
    path, _ = public()
    with pytest.raises(FnlError, match=message) as caught:
        run_here({**flat, "model.initial": path, **keys})
    assert "\n" not in str(caught.value)
    assert not Path(flat["run.results-dir"]).exists()


def test_a_client_whose_public_weights_are_others_refuses(flat, public, monkeypatch):
    path, _ = public()
    check = clients.app.check_start

    def changed(*given):
        config = parse_config({**flat, "run.seed": 6})
        public_weights(Path(path), config, open_federation(config))
        check(*given)

    monkeypatch.setattr(clients.app, "check_start", changed)
    with pytest.raises(RunError, match="holds other weights for this client than for the server"):
        run_here({**flat, **PART, "model.initial": path})


def test_averages_weigh_models_by_how_long_ago_they_were():
    models = [{"w": np.array([value, 1.0], np.float32)} for value in (3.0, -1.0, 4.0, 1.5)]
    average: Weights = {}
    for number, model in enumerate(models, start=1):
        average = moved(average, model, decay=0.6, server_round=number)
        shares = 0.6 ** np.arange(number - 1, -1, -1)
        expected = sum(s * m["w"] for s, m in zip(shares, models, strict=False)) / shares.sum()
        np.testing.assert_allclose(average["w"], expected, rtol=1e-6)
        assert average["w"].dtype == np.float32


def test_the_average_is_what_is_evaluated_and_kept_and_changes_no_training(flat):
    averaged = {**flat, **AVERAGE, "run.name": "averaged", "run.rounds": 3}
    plain = {**flat, "run.rounds": 3}
    run_here(averaged)
    run_here(plain)
    own, same = table(averaged, "clients"), table(plain, "clients")
    times = ("seconds", "peak_memory_bytes")
    assert own.drop(times, strict=False).equals(same.drop(times, strict=False), null_equal=True)
    assert model_of(averaged) != model_of(plain)
    config, network = load_model(path_of(averaged))
    federation = open_federation(config)
    found = evaluate(network, *federation.split_clips("test"), federation.classes)
    rounds = table(averaged, "rounds")
    assert rounds.row(-1, named=True)["accuracy"] == found.accuracy
    # after one round it is that round's model
    assert rounds["loss"][1] == table(plain, "rounds")["loss"][1]
    assert rounds["loss"][3] != table(plain, "rounds")["loss"][3]


@pytest.mark.slow
def test_a_killed_run_goes_on_with_average_and_part(flat, public, tmp_path):
    path, _ = public()
    keys = {**PART, **AVERAGE, **VIEWS, "model.initial": path, "run.checkpoint-every": 1}
    given = parse_config({**flat, **keys, "run.rounds": 4}).flat()
    whole = {**given, "run.name": "whole"}
    assert not run_and_kill(whole, 0, tmp_path / "instants")
    instants = int((tmp_path / "instants").read_text())
    assert run_and_kill(given, instants * 3 // 4, tmp_path / "unused")
    assert len(json.loads((path_of(given) / "run.json").read_text())["initial"]["sha256"]) == 64
    original = Path(path).read_bytes()
    public("up,no")
    with pytest.raises(RunError, match="holds other weights than when the run"):
        run_here(given)
    Path(path).write_bytes(original)
    run_here(given)
    assert_same_run(path_of(given), path_of(whole))


@pytest.mark.slow
def test_both_engines_give_the_same_bits(flat, public, tmp_path):
    path, _ = public("up,no,left")
    given = {**flat, **PART, **STEPS, **VIEWS, **AVERAGE, "model.initial": path}
    del given["run.name"]
    ours = directory_of(fnl("run", *settings(given)))
    flower = directory_of(fnl("run", "--engine=flower", *settings(given)))
    assert_same_run(ours, flower)
    assert read_run(ours)["initial"] == read_run(flower)["initial"]


def test_a_view_is_one_for_what_predicts_a_step():
    keys = {**VIEWS, "evaluation.shadow": True, "evaluation.sensitivity": True}
    with pytest.raises(ConfigError, match="looks at one view of a clip"):
        parse_config({**keys, "training.optimizer": "sgd"})
