"""An algorithm's options, state and declaration are checked; it does what its class says."""

from __future__ import annotations

import sys

import numpy as np
import polars as pl
import pytest

from fnl.config import parse_config
from fnl.errors import ConfigError, RunError
from server.algorithm import Algorithm, algorithm_of
from server.coordination import Coordinator, rules_read
from server.record.guarantee import _guarantee
from tests.runs import model_of, path_of, run_here, table

SOURCE = """
from dataclasses import dataclass

import numpy as np

import fnl


@dataclass(frozen=True)
class Counting(fnl.Algorithm):
    tau: float = 0.5
    last: int = 3
    loud: bool = False
    name: str = ""

    reads = ("partition", "models")

    def __post_init__(self):
        if self.tau < 0:
            raise ValueError("tau must not be negative")

    def start(self, weights, config):
        return {"rounds": np.zeros(config.data.clients), "whole": np.int64(0)}

    def select(self, reports, context):
        return [context.state["rounds"][report.partition] for report in reports]

    def step(self, taken):
        rounds = taken.context.state["rounds"].copy()
        rounds[[report.partition for report in taken.reports]] += self.tau
        state = {"rounds": rounds, "whole": taken.context.state["whole"] + 1}
        return fnl.Stepped(taken.mean([1.0] * len(taken.models)), state)


class Undeclared(fnl.Algorithm):
    pass


class Peeking(fnl.Algorithm):
    reads = ("partition",)

    def step(self, taken):
        return fnl.Stepped(taken.models[0], {})


class Reading(fnl.Algorithm):
    reads = ("partition",)

    def step(self, taken):
        return fnl.Stepped(taken.aggregate, {"n": np.array(taken.reports[0].num_examples)})


class Misspelt(fnl.Algorithm):
    reads = ("partitions",)


class BadState(fnl.Algorithm):
    reads = ()

    def step(self, taken):
        return fnl.Stepped(taken.aggregate, {"words": np.array(["a"])})


class Changing(fnl.Algorithm):
    reads = ()

    def start(self, weights, config):
        return {"n": np.zeros(2)}

    def step(self, taken):
        taken.context.state["n"] += 1
        return fnl.Stepped(taken.aggregate, taken.context.state)


class WrongCorrection(fnl.Algorithm):
    reads = ()

    def correction(self, state, partition):
        return {"nothing": np.zeros(1)}


class Infinite(fnl.Algorithm):
    reads = ()

    def step(self, taken):
        return fnl.Stepped({n: v * np.inf for n, v in taken.aggregate.items()}, {})


def function(reports, context):
    return [1.0]
"""
SHORT = {
    "run.name": "r", "evaluation.shadow": False, "model.hidden": "8", "data.mel-bins": 8,
    "data.frame-hop-ms": 50, "coordination.selection": "random",
    "coordination.aggregation": "fedavg", "privacy.mode": "none",
}  # fmt: skip


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_algorithms.py").write_text(SOURCE)
    yield
    sys.modules.pop("own_algorithms", None)


def _named(name: str, options: str = "", **flat):
    own = {"coordination.algorithm": f"own_algorithms:{name}", "coordination.options": options}
    return parse_config(own | flat)


@pytest.fixture
def flat(small_config):
    def make(name: str, options: str = "", **more):
        return {
            **small_config,
            **SHORT,
            **_named(name, options).model_dump(include=set()),
            **more,
        } | {
            "coordination.algorithm": f"own_algorithms:{name}",
            "coordination.options": options,
        }

    return make


def test_options_are_the_fields_of_the_class():
    given = vars(algorithm_of(_named("Counting", "tau=0.25, last = 7,loud=true,name=a b")))
    assert given == {"tau": 0.25, "last": 7, "loud": True, "name": "a b"}
    assert vars(algorithm_of(_named("Counting")))["tau"] == 0.5
    assert algorithm_of(parse_config({})) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("taw=1", r"'taw=1' is no option=value of Counting, .* tau, last, loud, name"),
        ("tau", "'tau' is no option=value"),
        ("tau=much", "tau = 'much' must be a number"),
        ("tau=inf", "tau = 'inf' must be a number"),
        ("last=1.5", "last = '1.5' must be a whole number"),
        ("loud=yes", "loud = 'yes' must be true or false"),
        ("tau=-1", "tau must not be negative"),
    ],
)
def test_a_wrong_option_is_one_line_before_any_work(options, said):
    with pytest.raises(ConfigError, match=said):
        Coordinator(_named("Counting", options))


def test_options_without_an_algorithm_are_refused():
    with pytest.raises(ConfigError, match=r"name it in coordination.algorithm"):
        parse_config({"coordination.options": "tau=1"})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("function", r"no class below fnl.Algorithm"),
        ("Misspelt", "did you mean partition"),
        ("absent", "has no function or class absent"),
    ],
)
def test_what_is_no_algorithm_is_refused(name, said):
    with pytest.raises(ConfigError, match=said):
        Coordinator(_named(name))


def test_state_passes_from_round_to_round_and_is_in_the_checkpoint(flat):
    run_here(flat("Counting", "tau=2", **{"run.rounds": 3, "run.checkpoint-every": 1}))
    clients = table(flat("Counting"), "clients")
    past = dict.fromkeys(range(4), 0.0)
    for _, rows in clients.group_by("round", maintain_order=True):
        for partition, score in rows.select("partition", "score").rows():
            assert score == past[partition]
        for partition in rows.filter("selected")["partition"]:
            past[partition] += 2
    from safetensors.numpy import load_file

    newest = sorted((path_of(flat("Counting")) / "checkpoints").glob("*.safetensors"))[-1]
    kept = load_file(newest)
    assert kept["strategy/algorithm/rounds"].tolist() == list(past.values())
    assert kept["strategy/algorithm/whole"] == 3
    assert kept["strategy/algorithm/whole"].dtype == np.int64


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Peeking", r"reads the clients' models, .* put 'models' into its `reads`"),
        ("Reading", r"step reads 'num_examples', which it does not declare"),
        ("BadState", r"must be named arrays of numbers: 'words'"),
        ("WrongCorrection", r"correction returns must have an array a weight of the model"),
        ("Infinite", "step returns has .* not finite"),
    ],
)
def test_what_it_must_not_do_stops_the_run_in_one_line(name, said, flat):
    with pytest.raises(RunError, match=said) as caught:
        run_here(flat(name))
    assert "\n" not in str(caught.value)


def test_state_cannot_be_changed_in_place(flat):
    with pytest.raises(RunError, match=r"Changing\.step failed: .*read-only \(own_algorithms\.py"):
        run_here(flat("Changing"))


def test_the_rules_it_does_not_define_stay_as_configured_and_declare_for_themselves():
    read = rules_read(_named("Counting", **{"coordination.aggregation": "rate-weighted"}))
    assert read == {
        "algorithm": {"partition", "models"},
        "aggregation": {"num_examples", "firing_rate_after"},
    }
    assert rules_read(_named("Undeclared"))["algorithm"] is None


def test_the_guarantee_follows_from_what_it_reads():
    public = {"coordination.selection": "random", "coordination.aggregation": "fedavg"}
    declared = _guarantee(_named("Counting", **public))
    assert declared["uncovered_steering"] == []
    undeclared = _guarantee(_named("Undeclared", **public))
    assert undeclared["uncovered_steering"] == [
        "coordination.algorithm = 'own_algorithms:Undeclared'"
    ]
    assert "which is not declared" in str(undeclared["caveat"])


@pytest.mark.parametrize(
    ("name", "privacy", "said"),
    [
        ("Counting", {"privacy.mode": "client"}, r"reads what clients compute \(models\)"),
        ("Undeclared", {"run.strict-privacy": True}, "does not declare what it reads"),
        ("Undeclared", {"privacy.mode": "both"}, "does not declare what it reads"),
    ],
)
def test_privacy_refuses_what_it_does_not_cover(name, privacy, said):
    public = {"coordination.selection": "random", "coordination.aggregation": "fedavg"}
    with pytest.raises(ConfigError, match=said):
        Coordinator(_named(name, **public, **privacy))


def test_a_class_that_defines_nothing_changes_nothing(flat):
    run_here(flat("Undeclared"))
    with_it = model_of(flat("Undeclared"))
    plain = flat("Undeclared", **{"run.name": "plain"})
    plain["coordination.algorithm"] = "none"
    run_here(plain)
    assert with_it == model_of(plain)
    one, other = (table(f, "clients").drop("seconds") for f in (flat("Undeclared"), plain))
    assert one.equals(other, null_equal=True)
    assert isinstance(one, pl.DataFrame)


def test_the_base_class_is_what_is_public():
    import fnl

    assert fnl.Algorithm is Algorithm
