"""RateStrategy: every rule runs, state goes on where it was, shadows and probes change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fnl.config import parse_config
from fnl.config.rules import AGGREGATIONS, ROBUST, SELECTIONS
from fnl.data.federated import open_federation
from fnl.errors import RunError
from fnl.metrics import ranking
from fnl.runtime.in_process import InProcessGrid
from fnl.runtime.releases import Releases
from fnl.runtime.run_directory import read_run
from fnl.snn.network import build_network, initialise
from fnl.weights import get_weights, weights_hash
from fnl.wire import exchange
from server.replies.vetting import Shape
from server.rounds import Rounds
from server.spending import Spending
from server.strategy import RateStrategy
from tests.runs import run_here

OPTIMIZERS = ("fedavgm", "fedadagrad", "fedadam", "fedyogi")
ROUNDS, CLIENTS, SELECTED = 5, 4, 3


@pytest.fixture
def tiny(small_config):
    return {
        **small_config, "model.hidden": "12", "coordination.candidates": CLIENTS,
        "coordination.selected": SELECTED, "coordination.byzantine": 0,
        "coordination.trim": 0.34, "coordination.krum-average": 2,
        "run.rounds": ROUNDS, "evaluation.every": ROUNDS,
        "evaluation.shadow": False, "privacy.noise-multiplier": 0.5,
    }  # fmt: skip


def run(flat, workers: int = 1) -> Path:
    return run_here(parse_config(flat).flat(), workers=workers)[0].directory


def model(path: Path) -> str:
    return str(read_run(path)["model_sha256"])


def tables(path: Path) -> dict[str, pl.DataFrame]:
    return {
        name: pl.read_parquet(path / f"{name}.parquet").drop("seconds", strict=False)
        for name in ("rounds", "clients", "layers")
    }


@pytest.mark.parametrize("rule", SELECTIONS)
def test_every_selection_rule_runs_and_takes_the_best_ranked(rule, tiny):
    clients = tables(run({**tiny, "coordination.selection": rule}))["clients"]
    rounds = clients.group_by("round", maintain_order=True)
    assert rounds.agg(pl.col("selected").sum())["selected"].to_list() == [SELECTED] * ROUNDS
    for _, rows in rounds:
        ranks = ranking.ranks(rows["score"].to_numpy())
        assert rows["rank"].to_list() == ranks.tolist()
        best = rows["rank"] <= SELECTED
        assert rows["selected"].equals(best, check_names=False)


@pytest.mark.parametrize("rule", AGGREGATIONS)
def test_every_aggregation_rule_runs_and_shares_are_shares(rule, tiny):
    path = run({**tiny, "coordination.aggregation": rule, "coordination.selection": "random"})
    weights = tables(path)["clients"].filter("selected")["weight"]
    rounds = tables(path)["rounds"]
    assert len(weights) == ROUNDS * SELECTED
    if rule in ROBUST:
        assert weights.null_count() == len(weights)
        assert rounds["effective_clients"].null_count() == len(rounds)
        return
    sums = weights.to_numpy().reshape(ROUNDS, SELECTED).sum(1)
    if rule == "afedsnn":
        assert ((sums > 0) & (sums < 1)).all()
    else:
        np.testing.assert_allclose(sums, 1)
    assert rounds["effective_clients"].drop_nulls().is_between(1, SELECTED + 1e-9).all()


def test_aggregation_rules_and_optimizers_give_models_of_their_own(tiny):
    tiny |= {"run.rounds": 2, "coordination.selection": "random"}
    hashes = {rule: model(run({**tiny, "coordination.aggregation": rule})) for rule in AGGREGATIONS}
    for name in OPTIMIZERS:
        hashes[name] = model(run({**tiny, "coordination.server-optimizer": name}))
    # of rates in the clear no noise is known: there is nothing to shrink by
    assert hashes.pop("rate-shrunk") == hashes["rate-weighted"]
    # of three values the mean without the ends is the median
    assert hashes.pop("trimmed-mean") == hashes["median"]
    assert len(set(hashes.values())) == len(hashes)


def test_a_step_of_one_without_momentum_is_no_optimizer(tiny):
    onto = {"coordination.server-learning-rate": 1.0, "coordination.server-momentum": 0.0}
    plain, fedavgm = run(tiny), run({**tiny, "coordination.server-optimizer": "fedavgm", **onto})
    assert model(plain) == model(fedavgm)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("shadow", [False, True])
def test_a_probed_round_gives_the_same_run_for_fewer_bytes(workers, shadow, tiny):
    tiny |= {"run.rounds": 3, "coordination.selected": 2, "evaluation.shadow": shadow}
    plain, probed = run(tiny), run({**tiny, "coordination.probe": True}, workers)
    assert model(plain) == model(probed)
    for name, table in tables(plain).items():
        others = tables(probed)[name].drop("bytes_up", "bytes_down", strict=False)
        columns = table.drop("bytes_up", "bytes_down", strict=False)
        assert columns.equals(others, null_equal=True), name
    up, probed_up = (tables(path)["rounds"]["bytes_up"][1:].to_numpy() for path in (plain, probed))
    down = tables(plain)["rounds"]["bytes_down"][1:].to_numpy()
    # what is saved is the weights of the two that were not selected: as large as those sent down
    one_model = (down - CLIENTS * (8 + len(exchange.ROUND))) / CLIENTS
    np.testing.assert_array_equal(up - probed_up, 2 * one_model)
    assert tables(plain)["rounds"]["bytes_up"][0] is None


def test_bytes_are_those_of_the_models_and_the_reports(tiny):
    config = parse_config(tiny)
    federation = open_federation(config)
    network = build_network(config.model, federation.inputs, federation.classes)
    numbers = sum(value.nbytes for value in get_weights(network).values())
    down = tables(run({**tiny, "run.rounds": 1}))["rounds"]["bytes_down"][1]
    overhead = down / CLIENTS - numbers
    arrays = len(get_weights(network))
    assert 128 * arrays <= overhead < 192 * arrays  # NumPy's header of an array is 128 bytes


def strategy_rounds_and_grid(flat) -> tuple[RateStrategy, Rounds, InProcessGrid, dict]:
    config = parse_config(flat)
    grid = InProcessGrid(
        "clients.app:app",
        clients=CLIENTS,
        run_config=config.flat(),
        notify=lambda _: None,
    )
    nodes = dict(enumerate(grid.get_node_ids()))
    federation = open_federation(config)
    network = build_network(config.model, federation.inputs, federation.classes)
    initialise(network, config.run.seed)
    rounds = Rounds(config, nodes, grid)
    strategy = RateStrategy(
        config,
        rounds,
        Spending(config),
        Releases(Path(config.run.results_dir)),
        nodes=nodes,
        shape=Shape(len(network.neuron), federation.classes),
    )
    return strategy, rounds, grid, get_weights(network)


def play(strategy, grid, weights, rounds):
    from flwr.app import ConfigRecord

    for server_round in rounds:
        arrays = exchange.to_arrays(weights)
        messages = strategy.configure_train(server_round, arrays, ConfigRecord(), grid)
        arrays, _ = strategy.aggregate_train(server_round, grid.send_and_receive(messages))
        weights = exchange.from_arrays(arrays)
    return weights


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_restored_strategy_goes_on_as_if_nothing_had_happened(optimizer, tiny):
    flat = {
        **tiny, "coordination.server-optimizer": optimizer, "coordination.selected": 2,
        "coordination.selection": "round-robin", "coordination.aggregation": "afedsnn",
        "privacy.mode": "none",
    }  # fmt: skip
    strategy, _, grid, weights = strategy_rounds_and_grid(flat)
    through = play(strategy, grid, weights, range(1, 5))
    first, rounds, grid, weights = strategy_rounds_and_grid(flat)
    halfway = play(first, grid, weights, (1, 2))
    saved = {key: value.copy() for key, value in rounds.state().items()}
    assert all(isinstance(value, np.ndarray) for value in saved.values())
    second, rounds, grid, _ = strategy_rounds_and_grid(flat)
    rounds.restore(saved)
    assert weights_hash(play(second, grid, halfway, (3, 4))) == weights_hash(through)
    forgetful, _, grid, _ = strategy_rounds_and_grid(flat)
    assert weights_hash(play(forgetful, grid, halfway, (3, 4))) != weights_hash(through)
    assert saved["history/times-selected"].tolist() == [1, 1, 1, 1]


def test_shadows_do_not_disturb_the_optimizer(tiny):
    tiny |= {"coordination.server-optimizer": "fedadam", "coordination.aggregation": "afedsnn"}
    assert model(run(tiny)) == model(run({**tiny, "evaluation.shadow": True}))


def test_a_state_of_another_federation_is_refused(tiny):
    _, rounds, _, _ = strategy_rounds_and_grid(tiny)
    state = rounds.state()
    state["history/times-selected"] = np.zeros(9, np.int64)
    with pytest.raises(RunError, match="times-selected of 4 clients"):
        rounds.restore(state)


def test_clients_that_all_forgot_their_updates_fail_the_run(tiny):
    strategy, _, grid, weights = strategy_rounds_and_grid(
        {**tiny, "coordination.probe": True, "coordination.minimum": 1}
    )
    from flwr.app import ConfigRecord

    arrays = exchange.to_arrays(weights)
    messages = strategy.configure_train(1, arrays, ConfigRecord(), grid)
    replies = list(grid.send_and_receive(messages))
    assert all(exchange.ARRAYS not in reply.content for reply in replies)
    grid._states.clear()
    with pytest.raises(
        RunError, match=r"none of the 3 selected gave weights.*no update of round 1"
    ):
        strategy.aggregate_train(1, replies)
