"""Runs whose noise is shared: what the server is given and makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from flwr.app import ArrayRecord
from scipy import stats

from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.errors import RunError
from fnl.metrics.aggregation import flatten
from fnl.privacy.budget import Noise
from fnl.runtime.checkpoint import checkpoints
from fnl.runtime.run_directory import read_run
from fnl.training.client import LocalTraining
from fnl.training.shared_noise import shared_sum_of
from fnl.training.start import start_network
from fnl.weights import Weights, get_weights
from fnl.wire import exchange
from tests.faults.faulty_app import FAULTS
from tests.runs import assert_same_run, directory_of, fnl, path_of, run_here, settings, table
from tests.server.shared_runs import RELEASED, SHARED


@pytest.fixture
def flat(small_config):
    return {**small_config, **SHARED}


def first_and_last(flat) -> tuple[Weights, Weights]:
    """Return a run's first and last global weights: the latter as it was kept."""
    from safetensors.numpy import load_file

    config = parse_config(flat)
    start = get_weights(start_network(config, open_federation(config)))
    return start, load_file(path_of(flat) / "model.safetensors")


def expected_step(flat, partitions) -> np.ndarray:
    """Return the first step of these clients together, without noise, by ordinary local steps."""
    config = parse_config({**flat, "privacy.noise": "local"})
    federation = open_federation(config)
    start = get_weights(start_network(config, federation))
    summed, batches = np.zeros(flatten(start).size), 0.0
    for partition in partitions:
        client = LocalTraining(config, federation, (1, partition))
        trained, _ = client.train(start, Noise(0.0))
        batch = client.plan.sample_rate * len(client.labels)
        summed += (flatten(trained) - flatten(start)) * batch
        batches += batch
    return summed / batches


@pytest.mark.parametrize("keys", [{}, {"training.batch-size": 16}], ids=["full", "sampled"])
def test_a_round_is_a_step_along_all_clipped_sums_and_noise_of_the_sum(flat, keys):
    noisy = {**flat, **keys, "run.rounds": 1, "privacy.noise-multiplier": 2.0}
    run_here(noisy)
    start, last = first_and_last(noisy)
    clients = table(noisy, "clients")
    batches = (clients["num_examples"] * clients["sample_rate"]).sum()
    found = flatten({name: last[name] for name in start}) - flatten(start)
    noise = (found - expected_step(noisy, range(4))) * batches / 0.5
    assert noise.std() == pytest.approx(2.0, rel=4 / np.sqrt(2 * noise.size))
    assert stats.kstest(noise / 2.0, "norm").pvalue > 1e-6
    assert clients["weight"].to_numpy() == pytest.approx(
        (clients["num_examples"] * clients["sample_rate"] / batches).to_numpy()
    )


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"privacy.clipping-method": "ghost", "model.learn-beta": True},
        {"privacy.clipping": "per-layer"},
        {"privacy.clipping": "automatic", "training.trained": "readout+norm"},
    ],
    ids=str,
)
def test_next_to_no_noise_is_the_step_itself(flat, keys):
    noise = {"privacy.noise-multiplier": 0.05, "privacy.accountant": "rdp"}
    quiet = {**flat, "run.rounds": 1, **noise, **keys}
    run_here(quiet)
    start, last = first_and_last(quiet)
    found = flatten({name: last[name] for name in start}) - flatten(start)
    expected = expected_step(quiet, range(4))
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=5e-4)


def test_the_server_is_given_masked_integers_and_accounted_numbers_alone(flat):
    sent: list[tuple[set[str], dict, np.ndarray]] = []

    def take(reply):
        if reply.metadata.message_type == "train":
            arrays = reply.content.array_records
            vector = exchange.from_masked(arrays[exchange.MASKED]).copy()
            sent.append((set(arrays), dict(reply.content[exchange.METRICS]), vector))

    run_here({**flat, **RELEASED}, on_reply=take)
    assert len(sent) == 12
    for keys, report, vector in sent:
        assert keys == {exchange.MASKED}
        assert np.isnan(report["seconds"])
        private = {"update-norm", "train-loss", "loss-before", "clip-fraction",
                   "gradient-norm-median", "peak-memory-bytes"}  # fmt: skip
        assert not report.keys() & private
        assert stats.kstest(vector / 2**32, "uniform").pvalue > 1e-6
    assert len({vector.tobytes() for _, _, vector in sent}) == 12
    clients = table(flat, "clients")
    assert clients["update_norm"].null_count() == len(clients)
    assert clients["rate_released"].all()
    assert clients["clip_norm"].unique().to_list() == [1.0]


def test_the_ledger_books_the_noise_of_the_sum_and_keeps_everyones_budget(flat):
    run_here({**flat, **RELEASED})
    clients, record = table(flat, "clients"), read_run(path_of(flat))
    assert clients["noise_multiplier"].n_unique() == 1
    last = clients.filter(pl.col("round") == 3)["epsilon"]
    assert 7.8 < last.max() <= 8
    shared = record["privacy"]["shared_sum"]
    assert shared["noise of the sum"] == clients["noise_multiplier"][0]
    units = shared["share in units"] * 2 / shared["sensitivity in units"]
    assert units == pytest.approx(shared["noise of the sum"], rel=1e-3)
    assert "at least 4 of the 4 clients" in record["privacy"]["guarantee"]
    assert record["privacy_spent"]["gdp_mu"] is not None


def faulty(flat, faults: dict) -> Path:
    folder = Path(flat["run.results-dir"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAULTS).write_text(json.dumps(faults))
    run_here(flat, "tests.faults.faulty_app:app")
    return path_of(flat)


def test_a_client_that_drops_out_leaves_the_sum_of_the_others_and_enough_noise(flat):
    three = {**flat, "run.rounds": 1, "coordination.minimum": 3, "privacy.noise-multiplier": 2.0}
    path = faulty(three, {"1": {"2": "crash"}})
    start, last = first_and_last(three)
    clients = table(three, "clients")
    assert clients["partition"].to_list() == [0, 1, 3]
    found = flatten({name: last[name] for name in start}) - flatten(start)
    noise = (found - expected_step(three, [0, 1, 3])) * clients["num_examples"].sum() / 0.5
    assert noise.std() == pytest.approx(2.0, rel=4 / np.sqrt(2 * noise.size))
    # what dropped out may have computed, and paid; with all four there is more noise than booked
    assert pl.read_parquet(path / "faults.parquet")["epsilon_assumed"].is_not_null().all()
    run_here({**three, "run.name": "all"})
    last = first_and_last({**three, "run.name": "all"})[1]
    found = flatten({name: last[name] for name in start}) - flatten(start)
    all_clips = table({**three, "run.name": "all"}, "clients")["num_examples"].sum()
    noise = (found - expected_step(three, range(4))) * all_clips / 0.5
    assert noise.std() == pytest.approx(2.0 * np.sqrt(4 / 3), rel=4 / np.sqrt(2 * noise.size))


def test_fewer_than_are_needed_open_no_sum(flat):
    with pytest.raises(RunError, match=r"2 of 4 candidates failed, coordination\.minimum = 3"):
        faulty({**flat, "coordination.minimum": 3}, {"1": {"0": "crash", "2": "crash"}})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content.pop(exchange.MASKED), "sent nothing in place of"),
        (
            lambda content: content.__setitem__(exchange.ARRAYS, ArrayRecord()),
            "sent arrays, masked-sum in place of",
        ),
        (
            lambda content: content.__setitem__(
                exchange.MASKED, exchange.to_masked(np.zeros(7, np.uint32))
            ),
            "has 7 numbers, not",
        ),
        (
            lambda content: content.__setitem__(
                exchange.MASKED, ArrayRecord({exchange.MASKED: exchange.to_array(np.zeros(7))})
            ),
            "is float64 of 1 axes, not uint32",
        ),
    ],
)
def test_anything_but_one_masked_vector_is_a_fault_of_its_sender(flat, change, reason):
    def spoil(reply):
        if reply.metadata.message_type == "train" and not spoilt:
            spoilt.append(True)
            change(reply.content)

    spoilt: list[bool] = []
    run_here({**flat, "run.rounds": 1, "coordination.minimum": 3}, on_reply=spoil)
    faults = table(flat, "faults")
    assert len(faults) == 1
    assert reason in faults["reason"][0]


def test_a_single_update_in_the_clear_is_no_answer_of_other_runs_either(flat):
    """And a masked vector is none where noise is local."""
    local = {**flat, "privacy.noise": "local", "run.rounds": 1}

    def mask(reply):
        if reply.metadata.message_type == "train":
            reply.content[exchange.MASKED] = exchange.to_masked(np.zeros(7, np.uint32))

    with pytest.raises(RunError, match="4 of 4 candidates failed"):
        run_here(local, on_reply=mask)


@pytest.mark.parametrize(
    ("noise", "said"),
    [("local", "reports no update_norm"), ("distributed", "reports update_norm, which")],
)
def test_an_updates_norm_is_told_where_its_noise_is_the_clients_own(flat, noise, said):
    def change(reply):
        if reply.metadata.message_type == "train" and not changed:
            changed.append(True)
            report = reply.content[exchange.METRICS]
            if noise == "local":
                report.pop("update-norm")
            else:
                report["update-norm"] = 1.0

    changed: list[bool] = []
    one = {**flat, "run.rounds": 1, "coordination.minimum": 3, "privacy.noise": noise}
    run_here(one, on_reply=change)
    assert [reason[: len(said)] for reason in table(one, "faults")["reason"]] == [said]


@pytest.mark.slow
def test_order_of_arrival_and_workers_change_nothing(flat):
    average = {"evaluation.average": 0.5, "coordination.server-optimizer": "fedavgm"}
    one = {**flat, **RELEASED, **average}
    two = {**one, "run.name": "two"}
    run_here(one)
    run_here(two, workers=2)
    assert_same_run(path_of(one), path_of(two))


@pytest.mark.slow
def test_both_engines_give_the_same_bits(flat):
    flat = {**flat, **RELEASED, "training.trained": "readout"}
    ours = directory_of(fnl("run", *settings(flat)))
    flower = directory_of(fnl("run", "--engine=flower", *settings({**flat, "run.name": "ray"})))
    assert_same_run(ours, flower)


def test_a_part_is_trained_and_sent(flat):
    part = {**flat, "training.trained": "readout"}
    run_here(part)
    start, last = first_and_last({**flat, "run.name": "shared"})
    for name, value in start.items():
        assert (last[name] == value).all() == (not name.startswith("readout")), name


def test_a_run_that_goes_on_has_the_bits_of_one_that_was_never_stopped(flat):
    whole = {**flat, **RELEASED, "run.name": "whole", "run.checkpoint-every": 1}
    run_here(whole)
    cut = {**whole, "run.name": "cut"}

    def stop(reply):
        counted.append(reply)
        if len(counted) == 4 * 2 + 2:  # in the third round
            raise RunError("stopped")

    counted: list[object] = []
    with pytest.raises(RunError, match="stopped"):
        run_here(cut, on_reply=stop)
    run_here(cut)
    assert_same_run(path_of(whole), path_of(cut))


def test_a_seeded_round_is_not_opened_again_over_others(flat):
    flat = {**flat, "run.checkpoint-every": 1, "coordination.minimum": 3}

    def stop(reply):
        counted.append(reply)
        if len(counted) == 4 * 2 + 2:
            raise RunError("stopped")

    counted: list[object] = []
    with pytest.raises(RunError, match="stopped"):
        run_here(flat, on_reply=stop)
    checkpoints(path_of(flat) / "checkpoints")[0].unlink()
    with pytest.raises(RunError, match="round 2 was released before from other answers"):
        faulty(flat, {"2": {"1": "crash"}})


def test_the_units_of_a_sum_follow_from_public_numbers(flat):
    config = parse_config(flat)
    shared = shared_sum_of(config, 100)
    clips = sum(len(open_federation(config).partitioning.rows(k)) for k in range(4))
    assert (shared.clips, shared.survivors, shared.clients) == (clips, 4, 4)
    assert shared.unit == 2.0**-shared.fraction_bits
