"""Rounds of several clients as one batch: reports, shadows, floors, refusals; and whole runs."""

import json
from dataclasses import fields

import numpy as np
import polars as pl
import pytest
import torch

from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.errors import BudgetError, ConfigError
from fnl.privacy.ledger import Ledger, Spend
from fnl.snn.evaluation import evaluate
from fnl.training.batched.choice import bytes_of_client, clients_at_once
from fnl.training.batched.evaluation import evaluate_together
from fnl.training.batched.rounds import play_together
from fnl.training.local import play_round, train_round
from fnl.training.start import network_of, start_network
from fnl.weights import get_weights
from tests.runs import path_of, run_here

MEASURED = {
    "privacy.mode": "record",
    "privacy.rate-release": "gaussian",
    "evaluation.floor": True,
    "training.steps": 2,
}


def _asked(config, partition, **more):
    federation = open_federation(config)
    weights = get_weights(start_network(config, federation))
    common = {"server_round": 1, "weights": weights, "ledger": Ledger()}
    return (config, federation), {"partition": partition, **common, **more}


def _close(one, other):
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_close, one, other))
    if hasattr(one, "__dataclass_fields__"):
        return all(_close(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, float):
        return one == pytest.approx(other, rel=1e-3, abs=2e-3, nan_ok=True)
    return one == other


def test_reports_shadows_and_floors_are_those_of_one_client_at_a_time(small_config):
    config = parse_config({**small_config, **MEASURED})
    given = [_asked(config, partition) for partition in (2, 0, 3)]
    together = play_together([play_round(*run, **asked) for run, asked in given])
    for (run, asked), found in zip(given, together, strict=True):
        alone = train_round(*run, **asked)
        assert found.ledger == alone.ledger
        for name in ("weights", "shadow_weights", "floor_weights"):
            one, other = getattr(alone, name), getattr(found, name)
            assert all(np.allclose(one[key], other[key], atol=2e-4) for key in one)
        for field in fields(alone.report):
            if field.name not in ("seconds", "peak_memory_bytes"):
                one, other = getattr(alone.report, field.name), getattr(found.report, field.name)
                assert _close(one, other), field.name
    assert len({found.report.seconds for found in together}) == 1


def test_who_has_no_budget_left_is_left_out_and_the_others_train(small_config):
    config = parse_config({**small_config, "privacy.mode": "record", "training.steps": 1})
    spent = Ledger().with_entries([Spend(0.1, 1.0, 100)])
    given = [_asked(config, 0), _asked(config, 1, ledger=spent), _asked(config, 2)]
    outcomes = play_together([play_round(*run, **asked) for run, asked in given])
    assert isinstance(outcomes[1], BudgetError)
    assert [outcomes[place].report.partition for place in (0, 2)] == [0, 2]


@pytest.mark.parametrize("changes", [{}, {"model.encoding": "rate"}, {"model.network": "delays"}])
def test_rates_of_several_models_are_those_of_each(changes, small_config):
    config = parse_config({**small_config, **changes})
    federation = open_federation(config)
    first = get_weights(start_network(config, federation))
    models = [first, {name: 1.5 * value for name, value in first.items()}]
    clips = [federation.client_clips(partition) for partition in (1, 2)]
    clips[0] = tuple(part[:70] for part in clips[0])  # more than a batch, of one client alone
    clips[1] = tuple(part[:9] for part in clips[1])
    network = network_of(config, federation, first)
    found = evaluate_together(network, models, clips, federation.classes)
    for model, own, one in zip(models, clips, found, strict=True):
        network = network_of(config, federation, model)
        alone = evaluate(network, *own, federation.classes, rates_alone=True)
        assert one.loss == pytest.approx(alone.loss, rel=1e-4)
        assert one.accuracy == pytest.approx(alone.accuracy, abs=0.02)
        assert np.allclose(one.clip_rates, alone.clip_rates, atol=1e-3)
        assert np.array_equal(one.firing.clips, alone.firing.clips)


@pytest.mark.parametrize(("workers", "clients"), [(1, "2"), (2, "8")])
def test_a_run_in_batches_is_the_run_of_one_client_at_a_time(small_config, workers, clients):
    found = []
    for name, at_once in (("alone", "0"), ("batched", clients)):
        flat = {**small_config, "run.name": name, "run.batched-clients": at_once}
        run_here(flat, workers=workers if at_once != "0" else 1)
        directory = path_of(flat)
        assert json.loads((directory / "run.json").read_text())["status"] == "finished"
        found.append([pl.read_parquet(directory / f"{t}.parquet") for t in ("rounds", "clients")])
    for alone, batched in zip(*found, strict=True):
        assert alone.columns == batched.columns
        assert len(alone) == len(batched)
    (rounds, clients_alone), (others, clients_batched) = found
    assert rounds["accuracy"].to_list() == pytest.approx(others["accuracy"].to_list(), abs=0.05)
    for column in ("update_norm", "firing_rate_after", "firing_rate_shadow", "epsilon"):
        one, other = (table[column].to_list() for table in (clients_alone, clients_batched))
        assert one == pytest.approx(other, rel=1e-2, abs=1e-3)


def test_clients_that_fail_as_a_batch_are_computed_one_by_one(small_config, monkeypatch):
    def fails(*_):
        raise MemoryError("no room for so many")

    monkeypatch.setattr("clients.app.play_together", fails)
    flat = {**small_config, "run.name": "fails", "run.batched-clients": "4", "run.rounds": 1}
    run_here(flat)
    clients = pl.read_parquet(path_of(flat) / "clients.parquet")
    assert len(clients) == 3


def test_auto_batches_on_a_gpu_as_many_as_its_memory_holds(monkeypatch):
    config = parse_config({"run.device": "auto"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert clients_at_once(config) == 1
    assert clients_at_once(parse_config({"run.batched-clients": "7"})) == 7
    assert clients_at_once(parse_config({"run.batched-clients": "0"})) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    free = 20 * bytes_of_client(config)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, free))
    assert clients_at_once(config) == 10
    own = parse_config({"run.device": "auto", "model.network": "tests.own_networks:any"})
    assert clients_at_once(own) == 1


def test_ones_own_network_in_a_batch_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"batched-clients = '4' needs .* not 'mine:network'"):
        parse_config({"run.batched-clients": "4", "model.network": "mine:network"})
