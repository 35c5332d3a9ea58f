"""A user's own rules are tried before any training, on what clients might say, and left as were."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.errors import RunError
from fnl.randomness import Purpose, stream
from fnl.weights import Weights
from fnl.wire.report import ClientReport
from server.replies.vetting import Shape
from server.trial import made_up_report, try_own_rules
from tests.clients.one_round import round_of_a_client
from tests.runs import run_here

SOURCE = """
import random

import numpy as np

import fnl
from server.declaration import reads

calls, total = [], 0


def keeping(reports, context):
    global total, late
    total, late = total + 1, True
    calls.append(random.random() + np.random.random())
    return np.ones(len(reports))


class Patient:
    def __init__(self):
        self.seen = 0

    def __call__(self, reports, context):
        self.seen += 1
        return context.stream.random(len(reports))


patient = Patient()


def beyond(reports, context):
    return [reports[len(reports)].firing_rate_after for _ in reports]


@reads("num_examples")
def peeking(reports, context):
    return [report.train_loss for report in reports]


def infinite(reports, context):
    return np.full(len(reports), np.inf)


def short(reports, context):
    return np.ones(1)


def refusing(reports, context):
    return [{"no": "number"} for _ in reports]


class BadStep(fnl.Algorithm):
    reads = ("models",)

    def step(self, taken):
        return fnl.Stepped(taken.updates[0]["absent"], {})


class BadState(fnl.Algorithm):
    reads = ()

    def step(self, taken):
        return fnl.Stepped(taken.aggregate, {"n": np.zeros(2)})

    def correction(self, state, partition):
        return {"n": state["n"]} if state else None
"""
SHAPE = Shape(layers=2, classes=4)
WEIGHTS: Weights = {"w": np.ones((3, 2), np.float32), "b": np.zeros(3, np.float32)}
RANKED = {"coordination.aggregation": "fedavg", "privacy.mode": "none"}


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_tried.py").write_text(SOURCE)
    yield
    sys.modules.pop("own_tried", None)


def _try(key: str, name: str, **more: object) -> None:
    config = parse_config({**RANKED, f"coordination.{key}": f"own_tried:{name}", **more})
    try_own_rules(config, SHAPE, WEIGHTS)


@pytest.mark.parametrize(
    ("key", "name", "said"),
    [
        ("selection", "beyond", r"failed: IndexError: .* \(own_tried\.py, line 32\)"),
        ("selection", "peeking", "reads 'train_loss', which it does not declare"),
        ("selection", "infinite", "a score that is not finite"),
        ("selection", "short", r"scores of shape \(1,\) for 12 candidates"),
        ("selection", "refusing", "one score a candidate"),
        ("aggregation", "short", r"weights of shape \(1,\) for 8 clients"),
        ("algorithm", "BadStep", r"BadStep\.step failed: KeyError: 'absent' \(own_tried\.py"),
        ("algorithm", "BadState", r"BadState\.correction returns must have an array a weight"),
    ],
)
def test_a_broken_rule_is_one_line_that_says_where(key, name, said):
    with pytest.raises(RunError, match=said) as caught:
        _try(key, name)
    assert str(caught.value).endswith("(tried on made-up reports, before any training)")
    assert "\n" not in str(caught.value)


def test_what_a_rule_keeps_and_shared_generators_are_as_they_were():
    before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002 the shared one
    _try("selection", "keeping")
    _try("selection", "patient")
    own = sys.modules["own_tried"]
    assert (own.calls, own.total, own.patient.seen) == ([], 0, 0)
    assert not hasattr(own, "late")
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], before)  # noqa: NPY002 the shared one
    assert own.keeping([1, 2], None).tolist() == [1, 1]
    assert len(own.calls) == own.total == 1  # it works on its own again


def test_a_run_stops_before_its_directory_is_made(small_config, tmp_path):
    flat = {**small_config, "coordination.selection": "own_tried:beyond"}
    with pytest.raises(RunError, match=r"own_tried\.py, line 32"):
        run_here(flat)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"privacy.mode": "none"},
        {"privacy.mode": "none", "evaluation.shadow": False},
        {"evaluation.floor": True, "evaluation.sensitivity": True, "training.optimizer": "sgd"},
        {"privacy.rate-release": "gaussian"},
        {"evaluation.shadow": False, "run.strict-privacy": True, "privacy.rate-release": "gaussian"}
        | {"coordination.selection": "random"},
    ],
    ids=str,
)
def test_made_up_reports_have_what_a_clients_own_has_and_pass_its_checks(keys, small_config):
    flat = {**small_config, **keys}
    config = parse_config(flat)
    real = round_of_a_client(flat).report
    counts = [real.num_examples] * config.data.clients
    shape = Shape(len(real.after.layers), open_federation(config).classes, counts)
    made = made_up_report(config, shape, 2, stream(0, Purpose.TRIAL))
    assert made.values().keys() == real.values().keys()
    for name, value in real.values().items():
        assert np.shape(made.values()[name]) == np.shape(value), name
        assert type(made.values()[name]) is type(value), name
    assert (made.steps, made.sample_rate) == (real.steps, real.sample_rate)
    assert made.delta == real.delta
    ClientReport.from_record(made.to_record(), most_rate=config.most_rate())


def test_a_rule_whose_module_keeps_other_objects_is_not_tried():
    _try("selection", "patient")  # imports it
    sys.modules["own_tried"].MISSING = object()  # code may ask whether it is that very one
    _try("selection", "short")
    del sys.modules["own_tried"].MISSING
    with pytest.raises(RunError, match="for 12 candidates"):
        _try("selection", "short")
