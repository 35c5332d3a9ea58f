"""The in-process engine gives the same run whatever the number of workers, and fails loudly."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from flwr.app import Message, MessageType, RecordDict

from fnl.config import parse_config
from fnl.errors import RunError
from fnl.runtime.in_process import InProcessGrid, run_in_process
from fnl.runtime.run_directory import read_run
from fnl.wire import exchange
from server.federation_nodes import nodes_by_partition

TIMES = ["seconds"]
_KEPT = exchange.KEPT + exchange.ARRAYS


def _run(flat, workers=1, client_app="clients.app:app"):
    said = []
    config = parse_config(flat)
    run_in_process(
        config,
        client_app=client_app,
        workers=workers,
        notify=said.append,
    )
    return said[0].directory


def _tables(path: Path):
    return {
        name: pl.read_parquet(path / f"{name}.parquet").drop(TIMES, strict=False)
        for name in ("rounds", "clients", "layers")
    }


def test_one_and_two_workers_give_the_same_bits(small_config):
    one, two = _run(small_config), _run(small_config, workers=2)
    assert read_run(one)["model_sha256"] == read_run(two)["model_sha256"]
    for name, table in _tables(one).items():
        assert table.equals(_tables(two)[name], null_equal=True), name


def test_a_run_fills_its_directory(small_config):
    path = _run(small_config | {"run.checkpoint-every": 1})
    record = read_run(path)
    assert (record["status"], record["engine"]) == ("finished", "in-process")
    assert record["corpus"]["synthetic"] is True
    assert "firing rates" in record["privacy"]["outside_guarantee"]
    rounds, clients = _tables(path)["rounds"], _tables(path)["clients"]
    assert rounds["round"].to_list() == [0, 1, 2]
    assert rounds["accuracy"].null_count() == 0
    assert rounds["epsilon_max"][0] is None
    assert rounds["epsilon_max"].drop_nulls().is_sorted()
    assert clients.group_by("round").len()["len"].to_list() == [3, 3]
    assert clients.filter("selected").group_by("round").agg(pl.col("weight").sum())[
        "weight"
    ].to_list() == pytest.approx([1.0, 1.0])
    assert clients.filter(~pl.col("selected"))["weight"].null_count() == 2
    names = {file.name for file in (path / "checkpoints").iterdir()}
    assert names == {"round-000001.safetensors", "round-000002.safetensors"}


def test_the_twin_differs_in_privacy_alone(small_config):
    private = _tables(_run(small_config))["clients"]
    twin = _tables(_run(small_config | {"privacy.mode": "none"}))["clients"]
    first = (pl.col("round") == 1,)
    assert private["partition"].equals(twin["partition"])
    columns = ["partition", "num_examples", "steps", "sample_rate", "firing_rate_before"]
    assert private.filter(*first).select(columns).equals(twin.filter(*first).select(columns))
    # the shadow of the first private round is what the twin did in it
    assert private.filter(*first)["firing_rate_shadow"].equals(
        twin.filter(*first)["firing_rate_after"], check_names=False
    )
    assert twin["epsilon"].null_count() == len(twin)


def test_a_failing_client_fails_the_run(small_config):
    with pytest.raises(RunError, match=r"1 of 3 candidates failed.*partition .*no clips today"):
        _run(small_config, client_app="tests.runtime.failing_app:app")
    (path,) = Path(small_config["run.results-dir"]).iterdir()
    record = read_run(path)
    assert record["status"] == "failed"
    assert "no clips today" in str(record["error"])


def test_replies_come_in_the_order_of_the_messages(small_config):
    config = parse_config(small_config)
    grid = InProcessGrid("clients.app:app", clients=4, run_config=config.flat())
    nodes = list(grid.get_node_ids())[::-1]
    messages = [Message(RecordDict(), node, MessageType.QUERY) for node in nodes]
    replies = grid.send_and_receive(messages)
    assert [reply.metadata.src_node_id for reply in replies] == nodes


def test_pushed_messages_are_pulled_once(small_config):
    config = parse_config(small_config)
    grid = InProcessGrid("clients.app:app", clients=4, run_config=config.flat())
    node = next(iter(grid.get_node_ids()))
    ids = list(grid.push_messages([Message(RecordDict(), node, MessageType.QUERY)]))
    assert len(list(grid.pull_messages(ids))) == 1
    assert list(grid.pull_messages(ids)) == []


def test_a_hundred_thousand_clients_are_known_without_a_message(monkeypatch):
    grid = InProcessGrid("clients.app:app", clients=100_000, run_config={})
    monkeypatch.setattr(grid, "_exchange", lambda *_: pytest.fail("a message was sent"))
    nodes = nodes_by_partition(grid, 100_000)
    assert list(nodes) == list(range(100_000))
    assert list(nodes.values()) == list(grid.get_node_ids())


def test_updates_that_nobody_asked_for_are_kept_for_their_round_alone(small_config, monkeypatch):
    grids, kept = [], []
    start, drop = InProcessGrid.__init__, InProcessGrid._drop_what_waits

    def noted(grid):
        drop(grid)
        kept.append(sum(_KEPT in state for state in grid._states.values()))

    monkeypatch.setattr(
        InProcessGrid,
        "__init__",
        lambda self, *a, **k: (grids.append(self), start(self, *a, **k))[1],
    )
    monkeypatch.setattr(InProcessGrid, "_drop_what_waits", noted)
    _run(small_config | {"coordination.probe": True, "run.rounds": 3, "evaluation.shadow": False})
    assert kept == [0, 0, 0]  # as each round begins
    (grid,) = grids
    assert sum(_KEPT in state for state in grid._states.values()) == 1  # 3 asked, 2 selected
