"""Clients asked in turn: fewer rounds of whoever is asked most often, and so less noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from flwr.app import ConfigRecord, Message
from safetensors.numpy import load_file

from fnl.audit.books import count_releases
from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.errors import RunError
from fnl.metrics.aggregation import flatten
from fnl.privacy.client_level import client_delta, epsilon_client, planned_noise
from fnl.runtime.run_directory import read_run
from fnl.schedule import asked_in, planned_of
from fnl.training.start import start_network
from fnl.weights import get_weights
from fnl.wire import exchange
from tests.runs import assert_same_run, path_of, run_here, table

IN_TURN = {"coordination.schedule": "balanced"}
CLIENT = {
    "privacy.mode": "client", "coordination.selection": "random",
    "coordination.aggregation": "fedavg",
}  # fmt: skip


def test_client_level_noise_is_set_for_the_fewest_rounds_there_can_be():
    flat = {**CLIENT, "run.rounds": 30, "coordination.candidates": 2, "coordination.selected": 2}
    drawn, in_turn = parse_config(flat), parse_config({**flat, **IN_TURN})
    most = int(planned_of(drawn, 30).max())
    assert planned_of(in_turn, 30).tolist() == [3] * 20
    assert most > 3
    # a composition of k Gaussian mechanisms of z is one of z/√k
    ratio = planned_noise(drawn) / planned_noise(in_turn)
    assert ratio == pytest.approx((most / 3) ** 0.5, rel=0.01)
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp_event.GaussianDpEvent(planned_noise(in_turn)), 3)
    released = [(number, planned_noise(in_turn)) for number in range(1, 31)]
    found = epsilon_client(in_turn, released)
    assert found == pytest.approx(accountant.get_epsilon(client_delta(in_turn)), abs=5e-3)
    assert 0.98 * 8 < found <= 8


@pytest.fixture
def flat(small_config):
    return {
        **small_config, **CLIENT, **IN_TURN, "run.name": "turns", "privacy.mode": "both",
        "run.rounds": 4, "data.frame-hop-ms": 50, "evaluation.shadow": False,
        "coordination.candidates": 2, "run.checkpoint-every": 2,
    }  # fmt: skip


@pytest.mark.parametrize("bands", [1, 2])
def test_a_run_asks_in_turn_and_goes_on_so_after_a_stop(flat, bands):
    flat |= {"privacy.client-bands": bands}
    run_here(flat)
    said = str(read_run(path_of(flat))["privacy"])
    assert ("correlated over 2 rounds" in said) == (bands == 2)
    rows, config = table(flat, "clients"), parse_config(flat)
    for number in range(1, 5):
        asked = rows.filter(round=number)["partition"].sort().to_list()
        assert asked == asked_in(config, number).tolist()
    assert rows["partition"].value_counts()["count"].to_list() == [2, 2, 2, 2]
    last = rows.filter(round=4)
    assert last["epsilon"].is_between(0.98 * 8, 8).all()  # the whole budget, in two rounds each
    stopped = {**flat, "run.results-dir": str(Path(flat["run.results-dir"]) / "stopped")}
    asked: list[Message] = []

    def stop(message: Message) -> None:
        asked.append(message)
        rounds = [one.content.get(exchange.CONFIG) for one in asked]
        if any(isinstance(one, ConfigRecord) and one.get(exchange.ROUND) == 4 for one in rounds):
            raise RunError("stopped")

    with pytest.raises(RunError, match="stopped"):
        run_here(stopped, on_send=stop)
    run_here(stopped)
    assert_same_run(path_of(flat), path_of(stopped))


def test_the_noise_of_a_round_undoes_a_part_of_the_last_round_s(flat):
    """The run's own models: without clients' part, the second round's noise has c_1/c_0 of it."""
    still = {**flat, "training.learning-rate": 1e-12, "privacy.mode": "client", "run.rounds": 2}
    still |= {"training.optimizer": "sgd", "privacy.client-bands": 2, "run.checkpoint-every": 1}
    run_here({**still, "run.name": "one", "run.rounds": 1, "privacy.client-noise-multiplier": 1.0})
    run_here({**still, "run.name": "two", "privacy.client-noise-multiplier": 1.0})
    config = parse_config(still)
    start = flatten(get_weights(start_network(config, open_federation(config))))
    models = [
        load_file(path_of({**flat, "run.name": n}) / "model.safetensors") for n in ("one", "two")
    ]
    first, second = (flatten(model) for model in models)
    correlation = np.corrcoef(first - start, second - first)[0, 1]
    assert correlation == pytest.approx(-0.5 / np.sqrt(1.25), abs=5 / np.sqrt(len(start)))


def test_all_that_leaves_such_a_run_is_in_its_books(flat):
    counts = count_releases(parse_config(flat))
    assert len(counts) == 5
    assert all(count.holds for count in counts)
