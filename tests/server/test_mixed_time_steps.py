"""Federations whose clients differ in their time step: from features to tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pytest

from fnl.audit.release_sensitivity import rate_sensitivity
from fnl.audit.sensitivity import TIGHT, with_bounds_of
from fnl.audit.step_sensitivity import batches_of, step_sensitivity
from fnl.config import parse_config
from fnl.config.data import DataGroup
from fnl.data.features import FeatureSpec
from fnl.data.federated import hops_of_clients, open_federation, prepare
from fnl.errors import ConfigError
from fnl.planning.matching import pilot_federation
from fnl.privacy.ledger import Ledger
from fnl.runtime.run_directory import read_run
from fnl.training.batched.choice import clients_at_once
from fnl.training.client import LocalTraining
from fnl.training.local import train_round
from fnl.training.start import start_network
from fnl.weights import get_weights, weights_hash
from server.replies.planned import check_plan
from server.replies.rejections import RejectedError
from tests.runs import assert_same_run, changed, path_of, run_here, table

MIXED = {
    "run.name": "run", "run.rounds": 2, "model.hidden": "8", "model.learn-beta": True,
    "data.mel-bins": 8, "data.frame-hop-ms": 50, "data.frame-hops": "25,50,100",
    "coordination.candidates": 4, "coordination.selected": 2, "evaluation.shadow": False,
}  # fmt: skip


@pytest.fixture
def flat(small_config):
    return partial(changed, small_config | MIXED)


@pytest.fixture
def mixed(flat):
    config = parse_config(flat())
    return config, open_federation(config)


def partition_at(config, hop: int) -> int:
    return next(partition for partition, own in hops_of_clients(config).items() if own == hop)


def weights_of(config, federation):
    return get_weights(start_network(config, federation))


def outcome_of(config, federation, partition: int):
    return train_round(
        config, federation, partition=partition, server_round=1, ledger=Ledger(),
        weights=weights_of(config, federation),
    )  # fmt: skip


def test_each_hop_is_that_of_equally_many_clients_and_follows_the_seed():
    keys = {"data.frame-hops": "10,20,40", "data.clients": 20, "model.initial": ""}
    config, other = (parse_config({**keys, "run.seed": seed}) for seed in (0, 1))
    counts = Counter(hops_of_clients(config).values())
    assert sorted(counts.values()) == [6, 7, 7]
    assert hops_of_clients(config) != hops_of_clients(other)
    assert hops_of_clients(config) == hops_of_clients(parse_config(keys))
    assert hops_of_clients(parse_config({})) == {}


def test_a_client_has_the_same_clips_at_its_own_step(mixed):
    config, federation = mixed
    for partition, hop in federation.hops.items():
        features, labels = federation.client_clips(partition)
        alone = prepare(config.model_copy(update={"data": at(config.data, hop)}), workers=1)
        expected, same = alone.client_clips(partition)
        assert features.shape[1] == 1000 // hop
        assert features.equal(expected)
        assert labels.equal(same)
    assert federation.split_clips("test")[0].shape[1] == 1000 // 50


def at(data: DataGroup, hop: int) -> DataGroup:
    return data.model_copy(update={"frame_hop_ms": hop, "frame_hops": ""})


def test_a_client_at_the_servers_step_has_the_bits_it_had(mixed, flat):
    config, federation = mixed
    plain = parse_config(flat(data__frame_hops=""))
    partition = partition_at(config, 50)
    one, other = (outcome_of(c, open_federation(c), partition) for c in (config, plain))
    assert weights_hash(one.weights) == weights_hash(other.weights)
    changed = {"frame_hop_ms": None, "seconds": 0.0, "peak_memory_bytes": None}
    reports = [replace(found.report, **changed) for found in (one, other)]
    assert str(reports[0]) == str(reports[1])
    assert (one.report.frame_hop_ms, other.report.frame_hop_ms) == (50, None)
    off = partition_at(config, 25)
    assert weights_hash(outcome_of(config, federation, off).weights) != weights_hash(
        outcome_of(plain, open_federation(plain), off).weights
    )


def test_a_run_of_the_servers_step_alone_has_the_model_it_had(flat):
    run_here(flat(data__frame_hops="50"))
    run_here(flat("plain", data__frame_hops=""))
    models = [read_run(path_of(flat(name)))["model_sha256"] for name in ("run", "plain")]
    assert models[0] == models[1]
    assert table(flat(), "clients")["frame_hop_ms"].unique().to_list() == [50]
    assert table(flat("plain"), "clients")["frame_hop_ms"].unique().to_list() == [None]


def test_a_mixed_run_says_who_had_which_step_and_is_the_same_on_any_number_of_workers(flat):
    run_here(flat(privacy__rate_release="gaussian"))
    run_here(flat("workers", privacy__rate_release="gaussian"), workers=2)
    assert_same_run(path_of(flat("workers")), path_of(flat()))
    clients = table(flat(), "clients")
    hops = hops_of_clients(parse_config(flat()))
    assert clients["frame_hop_ms"].to_list() == [hops[k] for k in clients["partition"]]
    assert not len(table(flat(), "faults"))


def test_rates_are_per_step_of_the_server_whatever_the_clients(mixed):
    """Spikes of a second, over the neurons and the server's steps in it."""
    config, federation = mixed
    for hop in (25, 50, 100):
        partition = partition_at(config, hop)
        client = LocalTraining(config, federation, (1, partition))
        weights = weights_of(config, federation)
        network = client.network(weights).eval()
        counts = network.trace(client.features).counts[0]  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        found = client.measure(weights).firing
        assert found.rate() == pytest.approx(float(counts.double().mean()) / 20)
        assert found.steps == 20


def test_the_same_network_on_the_same_clips_has_comparable_rates_at_all_steps(flat):
    """A constant current in place of features: what differs is when a step ends, no more."""
    config = parse_config(flat(model__normalisation="none", model__hidden="64"))
    federation = open_federation(config)
    weights = weights_of(config, federation)
    rates = {}
    for hop in (25, 50, 100):
        partition = partition_at(config, hop)
        client = LocalTraining(config, federation, (1, partition))
        client.features = 0 * client.features + 0.5
        rates[hop] = client.measure(weights).firing.rate()
    assert rates[50] > 0.01
    assert rates[25] == pytest.approx(rates[50], rel=0.15)
    assert rates[100] == pytest.approx(rates[50], rel=0.3)


def test_rates_of_shorter_steps_may_be_above_one_and_no_further(flat):
    config = parse_config(flat())
    assert config.most_rate(25) == 2.0
    assert config.most_rate(50) == 1.0  # a client of the server's step gains nothing by the others
    assert config.most_rate(None) == config.most_rate(3) == config.most_rate(True) == 1.0
    assert parse_config(flat(data__frame_hops="100")).most_rate(100) == 1.0
    assert parse_config(flat(data__frame_hops="")).most_rate(25) == 1.0
    assert parse_config(flat(model__activation="relu")).most_rate() == float("inf")


@pytest.mark.parametrize("method", ["per-clip", "ghost"])
@pytest.mark.parametrize("hop", [25, 100])
def test_a_clip_moves_a_clients_sums_by_its_bounds_at_any_step(flat, hop, method):
    """The sensitivity audit, on the code that trains: parameters are the server's."""
    keys = {"privacy__rate_release": "gaussian", "privacy__clipping_method": method}
    config = with_bounds_of(parse_config(flat(**keys)), TIGHT)
    federation, partition = open_federation(config), partition_at(config, hop)
    batches = batches_of(config, federation, partition=partition)
    removed = [batches[0][0], batches[0][-1]]
    (steps,) = step_sensitivity(config, federation, removed, batches, partition=partition)
    rates = rate_sensitivity(config, federation, removed, partition=partition)
    for found in (steps, rates):
        assert found.holds, found.described
        assert found.largest > 0.9  # and the bound is reached: nothing is clipped twice


def test_a_step_that_is_not_the_clients_is_impossible(mixed):
    config, federation = mixed
    partition = partition_at(config, 25)
    report = outcome_of(config, federation, partition).report
    clips = federation.partitioning.sizes().tolist()
    check_plan(report, config, clips)
    with pytest.raises(RejectedError, match="frame_hop_ms = 100, the configuration makes it 25"):
        check_plan(replace(report, frame_hop_ms=100), config, clips)
    # of devices nobody else knows it, and it is one of the run's
    check_plan(replace(report, frame_hop_ms=100), config, None)
    with pytest.raises(RejectedError, match=r"frame_hop_ms = 20, data\.frame-hops"):
        check_plan(replace(report, frame_hop_ms=20), config, None)
    plain = parse_config({**config.flat(), "data.frame-hops": ""})
    with pytest.raises(RejectedError, match="frame_hop_ms, which this run does not have"):
        check_plan(report, plain, clips)


REFUSED = {
    "do not divide a second": {"data.frame-hops": "15,30"},
    "do not divide": {"data.frame-hops": "200"},
    "named twice": {"data.frame-hops": "20,20"},
    "has events": {"data.corpus": "spikes", "data.root": "x"},
    "recurrent synapses": {"model.network": "recurrent"},
    "model.neuron = 'own:neuron'": {"model.neuron": "own:neuron"},
    "model.network = 'own:net'": {"model.network": "own:net"},
    "is a code in steps": {"model.encoding": "delta"},
    "no whole number of steps of 40 ms": {"model.network": "temporal-conv"},
    "run.batched-clients": {"run.batched-clients": "4"},
    "evaluation.sensitivity": {"evaluation.shadow": True, "evaluation.sensitivity": True,
                               "training.optimizer": "sgd"},
    "coordination.rate-gradient": {"coordination.rate-gradient": 1.0},
}  # fmt: skip


@pytest.mark.parametrize(("why", "keys"), REFUSED.items(), ids=REFUSED)
def test_what_has_no_meaning_in_other_steps_is_refused(why, keys):
    with pytest.raises(ConfigError, match=r"^data\.frame-hops = ") as refused:
        parse_config({"data.frame-hops": "10,20,40", "model.initial": "", **keys})
    assert why in str(refused.value)


def test_taps_that_fall_on_every_clients_steps_are_taken():
    keys = {"data.frame-hops": "10,20,40", "model.initial": "", "model.network": "temporal-conv"}
    parse_config({**keys, "model.dilations": "2,4"})
    parse_config({**keys, "data.frame-hops": "5,10"})


def test_plans_and_batches_of_clients_know_one_step_alone(flat):
    config = parse_config(flat())
    assert clients_at_once(config) == 1
    with pytest.raises(ConfigError, match=r"data\.frame-hops = '25,50,100': a plan"):
        pilot_federation(config, (4,))


def test_other_usable_clips_at_another_step_are_refused(flat, monkeypatch):
    from fnl.data import federated
    from fnl.errors import CorpusError

    build = federated.build_features

    def lacking(corpus, *, spec: FeatureSpec, **options):
        store = build(corpus, spec=spec, **options)
        return replace(store, clips=store.clips[1:]) if spec.frame_hop_ms == 25 else store

    monkeypatch.setattr(federated, "build_features", lacking)
    with pytest.raises(CorpusError, match="other usable clips at other time steps"):
        prepare(parse_config(flat()), workers=1)


def test_a_twin_without_spikes_reports_the_mean_of_its_activations(flat):
    config = parse_config(flat(model__activation="relu"))
    federation = open_federation(config)
    partition = partition_at(config, 25)
    client = LocalTraining(config, federation, (1, partition))
    weights = weights_of(config, federation)
    counts = client.network(weights).eval().trace(client.features).counts[0]  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    np.testing.assert_allclose(
        client.measure(weights).firing.rate(), float(counts.double().mean()) / 40, rtol=1e-6
    )


def test_columns_have_the_step(flat):
    run_here(flat(run__rounds=1))
    assert table(flat(), "clients").schema["frame_hop_ms"] == pl.Int64
