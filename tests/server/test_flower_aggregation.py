"""Robust rules and server optimizers give what Flower's own strategies give, called directly."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from fnl.config import CoordinationGroup
from fnl.errors import RunError
from fnl.runtime.in_process import InProcessGrid
from fnl.weights import weighted_mean
from server.aggregation import ROBUST_RULES, combine, server_step

pytestmark = pytest.mark.usefixtures("flower_identity")

CLIPS = [10, 30, 10, 20, 50, 40, 5]
ROBUST = {
    "median": ({}, flower.FedMedian),
    "trimmed-mean": ({"trim": 0.3}, lambda **keys: flower.FedTrimmedAvg(beta=0.3, **keys)),
    "krum": ({"byzantine": 2}, lambda **keys: flower.Krum(num_malicious_nodes=2, **keys)),
    "multi-krum": (
        {"byzantine": 2},
        lambda **keys: flower.MultiKrum(num_malicious_nodes=2, num_nodes_to_select=3, **keys),
    ),
    "bulyan": ({"byzantine": 1}, lambda **keys: flower.Bulyan(num_malicious_nodes=1, **keys)),
}


def as_replies(models, weights) -> list[Message]:
    return [
        Message(
            RecordDict(
                {
                    "arrays": ArrayRecord({name: Array(value) for name, value in model.items()}),
                    "metrics": MetricRecord({"share": float(weight)}),
                }
            ),
            dst_node_id=1,
            message_type="train",
        )
        for model, weight in zip(models, weights, strict=True)
    ]


def assert_equal(ours, flowers: ArrayRecord) -> None:
    assert list(ours) == list(flowers)
    for name, value in ours.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, flowers[name].numpy().astype(np.float32))


@pytest.fixture
def grid():
    return InProcessGrid("clients.app:app", clients=7, run_config={})


@pytest.fixture
def reports(report):
    return [report(p, num_examples=clips) for p, clips in enumerate(CLIPS)]


@pytest.mark.parametrize("rule", ROBUST)
def test_robust_rules_are_flowers_whoever_scored_best(rule, reports, models):
    settings, flowers = ROBUST[rule]
    expected, _ = flowers(weighted_by_key="share").aggregate_train(1, as_replies(models, CLIPS))
    wrapped = ROBUST_RULES[rule](CoordinationGroup(selected=7, **settings))
    order = [3, 0, 6, 1, 5, 2, 4]
    best_first = ([reports[i] for i in order], [models[i] for i in order])
    assert_equal(combine(1, *best_first, wrapped, before={}), expected)


def test_median_and_trimmed_mean_are_their_formulas(reports, models):
    settings = CoordinationGroup(selected=7, trim=0.3)
    stacked = np.stack([model["weight"] for model in models])
    median = combine(1, reports, models, ROBUST_RULES["median"](settings), before={})
    np.testing.assert_allclose(median["weight"], np.sort(stacked, axis=0)[3])
    trimmed = combine(1, reports, models, ROBUST_RULES["trimmed-mean"](settings), before={})
    np.testing.assert_allclose(trimmed["weight"], np.sort(stacked, 0)[2:5].mean(0), rtol=1e-6)


@pytest.mark.parametrize("rule", ["krum", "multi-krum", "bulyan", "median", "trimmed-mean"])
def test_robust_rules_are_not_moved_by_one_client_far_off(rule, reports, models):
    settings = CoordinationGroup(selected=7, byzantine=1, trim=0.2)
    attacked = [{name: value + 1e4 for name, value in models[0].items()}, *models[1:]]
    result = combine(1, reports, attacked, ROBUST_RULES[rule](settings), before={})
    assert all(np.abs(value).max() < 5 for value in result.values())
    plain = weighted_mean(attacked, CLIPS)
    assert all(np.abs(value).max() > 100 for value in plain.values())


def test_what_flower_refuses_is_one_line(reports, models):
    few = CoordinationGroup(selected=4, byzantine=1)
    with pytest.raises(RunError, match="Flower's Bulyan refuses 4 models"):
        combine(1, reports[:4], models[:4], ROBUST_RULES["bulyan"](few), before={})


RATE, MOMENTUM, BETA2, TAU = 0.3, 0.8, 0.95, 0.01
SETTINGS = {
    "server_learning_rate": RATE,
    "server_momentum": MOMENTUM,
    "server_beta2": BETA2,
    "server_tau": TAU,
}
ADAPTIVE = {"eta": RATE, "tau": TAU}
BETAS = {"beta_1": MOMENTUM, "beta_2": BETA2}
OPTIMIZERS = {
    "fedavgm": lambda **keys: flower.FedAvgM(
        server_learning_rate=RATE, server_momentum=MOMENTUM, **keys
    ),
    "fedadagrad": lambda **keys: flower.FedAdagrad(**ADAPTIVE, **keys),
    "fedadam": lambda **keys: flower.FedAdam(**ADAPTIVE, **BETAS, **keys),
    "fedyogi": lambda **keys: flower.FedYogi(**ADAPTIVE, **BETAS, **keys),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_server_optimizers_are_flowers_over_rounds(name, grid, models):
    """One Flower strategy kept over four rounds on all replies, against ours from plain arrays."""
    settings = CoordinationGroup(selected=7, server_optimizer=name, **SETTINGS)
    strategy = OPTIMIZERS[name](weighted_by_key="share", min_train_nodes=7, min_available_nodes=7)
    before, state = models[6], {}
    for server_round in range(1, 5):
        clients = [{n: v + before[n] / server_round for n, v in m.items()} for m in models]
        current = ArrayRecord({n: Array(v) for n, v in before.items()})
        strategy.configure_train(server_round, current, ConfigRecord(), grid)
        expected, _ = strategy.aggregate_train(server_round, as_replies(clients, CLIPS))
        aggregate = weighted_mean(clients, CLIPS)
        kept = {key: value.copy() for key, value in state.items()}
        after, next_state = server_step(
            settings, grid, server_round, before=before, aggregate=aggregate, state=state
        )
        again, _ = server_step(
            settings, grid, server_round, before=before, aggregate=aggregate, state=state
        )
        assert_equal(after, expected)
        assert_equal(again, expected)  # a step changes neither the state nor what it was given
        assert state.keys() == kept.keys()
        assert all(np.array_equal(state[key], kept[key]) for key in kept)
        before, state = after, next_state
    assert {key.split("/")[0] for key in state} == (
        {"momentum"} if name == "fedavgm" else {"momentum", "second-moment"}
    )


def test_adam_is_its_formula_in_the_first_round(grid, models):
    settings = CoordinationGroup(selected=7, server_optimizer="fedadam", **SETTINGS)
    before, aggregate = models[0], models[1]
    after, _ = server_step(settings, grid, 1, before=before, aggregate=aggregate, state={})
    delta = aggregate["bias"] - before["bias"]
    first, second = (1 - MOMENTUM) * delta, (1 - BETA2) * delta**2
    rate = RATE * np.sqrt(1 - BETA2**2) / (1 - MOMENTUM**2)  # Flower corrects for round + 1
    expected = before["bias"] + rate * first / (np.sqrt(second) + TAU)
    np.testing.assert_allclose(after["bias"], expected, rtol=1e-5)


def test_no_optimizer_steps_onto_the_aggregate(grid, models):
    settings = CoordinationGroup()
    after, state = server_step(settings, grid, 1, before=models[0], aggregate=models[1], state={})
    assert after is models[1]
    assert state == {}


def test_a_state_of_another_model_is_refused(grid, models):
    settings = CoordinationGroup(server_optimizer="fedadam")
    state = {"momentum/weight": np.zeros((2, 2)), "second-moment/weight": np.zeros((2, 2))}
    with pytest.raises(RunError, match="does not fit"):
        server_step(settings, grid, 1, before=models[0], aggregate=models[1], state=state)
