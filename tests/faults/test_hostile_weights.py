"""One client's finite but huge weights, or rates of 0, end nobody's run and are its own fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.serverapp import ServerApp

from fnl.runtime.run_directory import read_run
from fnl.runtime.worker_pool import RUN_ID, SERVER_NODE
from fnl.wire import exchange
from server.app import app
from tests.faults.faulty_grid import FaultyGrid
from tests.faults.injection import Schedule
from tests.runs import path_of, table

HOSTILE = 1
Forge = Callable[[RecordDict], None]


class _Grid(FaultyGrid):
    """One client's replies, of training and of uploads, are forged in every round."""

    forge: Forge

    def _after(self, kind: str | None, partition: int, reply: Message) -> Iterator[Message]:
        if partition == HOSTILE and reply.has_content():
            self.forge(reply.content)
        yield reply


def run_with(flat: dict[str, Any], forge: Forge) -> dict[str, object]:
    """Run a federation in which one client's replies are forged; return its record."""
    grid = _Grid(
        Schedule(seed=0, share=0.0),
        clients=int(flat["data.clients"]),
        run_config=flat,
        notify=lambda _: None,
    )
    grid.forge = forge
    context = Context(
        run_id=RUN_ID, node_id=SERVER_NODE, node_config={}, state=RecordDict(), run_config=flat
    )
    assert isinstance(app, ServerApp)
    try:
        app(grid, context)
    finally:
        grid.close()
    return read_run(path_of(flat))


def weights(value: float, keys: tuple[str, ...] = (exchange.ARRAYS,)) -> Forge:
    """Return what makes all weights `value`."""

    def forge(content: RecordDict) -> None:
        for key in keys:
            if key in content.array_records:
                sent = exchange.from_arrays(content.array_records[key])
                content[key] = exchange.to_arrays(
                    {name: np.full_like(array, value) for name, array in sent.items()}
                )

    return forge


def rates(value: float) -> Forge:
    """Return what makes all rates after training `value`."""

    def forge(content: RecordDict) -> None:
        report = content.get(exchange.METRICS)
        if not isinstance(report, MetricRecord):
            return
        for name in ("firing-rate-after", "layer-rates-after", "class-rates-after"):
            old = report[name]
            report[name] = [value] * len(old) if isinstance(old, list) else value

    return forge


@pytest.fixture
def unbounded(tiny) -> Callable[..., dict]:
    """Return a maker of configurations that leave `coordination.max-update-norm` as it is."""
    default = {"coordination.max-update-norm": 0.0}
    return lambda **changes: tiny(**{**default, **changes})


PLAIN = {"privacy.mode": "none", "run.rounds": 3}
SETTINGS: dict[str, dict[str, Any]] = {
    "private": {},
    "not private": PLAIN,
    "probed": PLAIN | {"coordination.probe": True},
    "averaged": PLAIN | {"evaluation.average": 0.5},
    "the median": PLAIN | {"coordination.aggregation": "median"},
    "an optimizer": PLAIN
    | {"coordination.aggregation": "fedavg", "coordination.server-optimizer": "fedadam"},
    "client level": {
        "privacy.mode": "client",
        "coordination.selection": "random",
        "coordination.aggregation": "fedavg",
    },
}


@pytest.mark.parametrize("value", [1e10, 3.4e38, -3.4e38])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_huge_weights_are_their_senders_fault(unbounded, settings, value):
    """Reproduction: everybody after it failed with update_norm = nan, and the run with them."""
    flat = unbounded(**settings)
    assert run_with(flat, weights(value))["status"] == "finished"
    faults = table(flat, "faults")
    assert faults["partition"].unique().to_list() == [HOSTILE]
    assert faults["kind"].unique().to_list() == ["too-large"]
    assert faults.height == flat["run.rounds"]
    assert table(flat, "rounds")["update_norm"].drop_nulls().is_finite().all()


def test_huge_weights_of_shadows_are_left_out(unbounded):
    flat = unbounded(**{"evaluation.shadow": True, "evaluation.floor": True})
    record = run_with(flat, weights(3.4e38, (exchange.SHADOW_ARRAYS, exchange.FLOOR_ARRAYS)))
    assert record["status"] == "finished"
    assert table(flat, "faults").is_empty()


@pytest.mark.parametrize("network", ["feedforward", "recurrent", "temporal-conv"])
@pytest.mark.parametrize("mode", ["none", "record"])
def test_as_much_as_is_taken_ends_no_run(unbounded, network, mode):
    """The longest updates that pass, in every round."""
    settings = {"run.rounds": 5, "coordination.selection": "random", "privacy.mode": mode}
    settings |= {"model.hidden": "8,8,8", "model.network": network}
    settings |= {"coordination.aggregation": "fedavg"}

    def forge(content: RecordDict) -> None:
        sent = exchange.from_arrays(content.array_records[exchange.ARRAYS])
        weights(9e5 / np.sqrt(sum(array.size for array in sent.values())))(content)

    flat = unbounded(**settings)
    assert run_with(flat, forge)["status"] == "finished"
    assert table(flat, "rounds")["round"].to_list() == list(range(6))


@pytest.mark.parametrize("aggregation", ["rate-weighted", "inverse-rate", "afedsnn"])
def test_a_rate_of_zero_ends_no_run(unbounded, aggregation):
    """Reproduction: "gave every selected client the weight 0"."""
    flat = unbounded(
        **PLAIN,
        **{
            "coordination.selection": "lowest-rate",
            "coordination.selected": 1,
            "coordination.aggregation": aggregation,
        },
    )
    assert run_with(flat, rates(0.0))["status"] == "finished"
    faults = table(flat, "faults")
    if aggregation == "rate-weighted":
        assert faults["kind"].to_list() == ["no-weights"] * 3
        assert faults["partition"].to_list() == [None] * 3
    else:
        assert faults.is_empty()
    assert table(flat, "rounds")["rejected"].drop_nulls().to_list() == [0] * 3


def test_an_aggregate_that_is_not_finite_leaves_the_model(unbounded, monkeypatch):
    from server import rounds

    real = rounds.server_step

    def overflowing(settings, grid, server_round, **given):
        after, state = real(settings, grid, server_round, **given)
        if server_round == 2:
            after = {name: value * np.float32(np.inf) for name, value in after.items()}
        return after, state

    monkeypatch.setattr(rounds, "server_step", overflowing)
    flat = unbounded(**PLAIN)
    assert run_with(flat, lambda _: None)["status"] == "finished"
    assert table(flat, "faults").select("round", "kind").rows() == [(2, "unusable-model")]
    assert table(flat, "rounds")["update_norm"].to_list()[2] == 0.0
