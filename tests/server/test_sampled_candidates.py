"""Runs whose candidates are drawn in secret: some rounds ask nobody, and none tells who was."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message
from opacus.accountants import RDPAccountant
from safetensors.numpy import load_file

from fnl.audit.books import count_releases
from fnl.config import parse_config
from fnl.errors import RunError
from fnl.metrics.aggregation import flatten
from fnl.privacy.client_level import client_delta, planned_noise
from fnl.privacy.ledger import RDP_ORDERS
from fnl.privacy.sampled_clients import drawn_candidates
from fnl.runtime.run_directory import read_run
from fnl.wire import exchange
from server.client_privacy import ClientPrivacy
from tests.faults.faulty_grid import run_with_faults
from tests.faults.test_faults import Only
from tests.runs import assert_same_run, directory_of, fnl, path_of, run_here, settings, table

ROUNDS = 5
SAMPLED = {
    "privacy.mode": "client", "coordination.selection": "random", "run.name": "sampled",
    "coordination.aggregation": "fedavg", "coordination.schedule": "poisson",
    "coordination.candidates": 1, "coordination.selected": 1, "run.rounds": ROUNDS, "run.seed": 6,
    "model.hidden": "8", "data.mel-bins": 8, "data.frame-hop-ms": 50, "run.checkpoint-every": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def flat(tmp_path_factory, small_settings):
    folder = str(tmp_path_factory.mktemp("sampled"))
    return parse_config({**small_settings, **SAMPLED, "run.results-dir": folder}).flat()


@pytest.fixture(scope="module")
def sampled(flat):
    """A run with shadows; seed 6 draws nobody in one of its rounds, and more than d in another."""
    run_here(flat)
    return flat


def asked_by_round(flat) -> list[list[int]]:
    config = parse_config(flat)
    return [drawn_candidates(config, number).tolist() for number in range(1, ROUNDS + 1)]


def test_a_run_asks_who_is_drawn_and_goes_on_where_nobody_is(sampled):
    clients, rounds = table(sampled, "clients"), table(sampled, "rounds")[1:]
    drawn = asked_by_round(sampled)
    assert {len(asked) for asked in drawn} >= {0, 2}
    for number, asked in enumerate(drawn, 1):
        rows = clients.filter(round=number)
        assert rows["partition"].sort().to_list() == asked
        assert rows["selected"].all()
        assert rows["weight"].to_list() == pytest.approx([1.0] * len(asked), rel=0.5)  # n_k N / Σn
    assert rounds["answered"].to_list() == [len(asked) for asked in drawn]
    empty = rounds.filter(answered=0)
    config = parse_config(sampled)
    start = load_file(path_of(sampled) / "model.safetensors")
    numbers = flatten(start).size
    largest = clients["weight"].max()
    noise = planned_noise(config) * config.privacy.client_clip_norm * largest * numbers**0.5
    assert empty["update_norm"].to_list() == pytest.approx([noise] * empty.height, rel=0.2)
    assert np.isfinite(rounds["accuracy"].to_numpy()).all()


def test_every_client_is_charged_for_every_round_at_the_rate_of_its_draw(sampled):
    config, spent = parse_config(sampled), table(sampled, "rounds")["epsilon_client"].to_list()
    assert spent[0] == 0
    for done in range(1, ROUNDS + 1):
        accountant = RDPAccountant()
        accountant.history = [(planned_noise(config), 1 / 4, done)]
        expected, _ = accountant.get_privacy_spent(delta=client_delta(config), alphas=RDP_ORDERS)
        assert spent[done] == pytest.approx(expected, rel=1e-9)
    assert 0.98 * 8 < spent[-1] <= 8


def test_a_run_says_what_its_guarantee_rests_on(sampled):
    said = read_run(path_of(sampled))["privacy"]
    assert isinstance(said, dict)
    for words in ("probability 0.25, by itself and in secret", "when it was asked has ε up to"):
        assert words in said["guarantee"]
    assert "drawn from run.seed = 6, which is no secret: for simulation only" in said["candidates"]
    tables = "the run's tables, log, callbacks and checkpoints tell it"
    assert tables in str(said["outside_guarantee"])
    assert tables in str(said["warnings"])


def test_its_twin_has_the_same_candidates_and_takes_the_same_sum(sampled):
    twin = {**sampled, "run.name": "twin", "privacy.mode": "none", "evaluation.shadow": False}
    run_here(twin)
    rows = [table(one, "clients").select("round", "partition") for one in (twin, sampled)]
    assert rows[0].equals(rows[1])
    rounds = table(twin, "rounds").filter(answered=0)
    assert rounds["update_norm"].to_list() == [0.0] * rounds.height == [0.0]
    # three came where one was expected; later rounds would be far apart after one other spike
    alone = {**twin, "run.name": "alone", "run.rounds": 1}
    quiet = {**alone, "run.name": "quiet", "privacy.mode": "client"}
    quiet |= {"privacy.client-noise-multiplier": 1e-9, "privacy.client-clip-norm": 1e3}
    models = []
    for flat in (alone, quiet):
        run_here(flat)
        models.append(flatten(load_file(path_of(flat) / "model.safetensors")))
    np.testing.assert_allclose(*models, atol=2e-5)


def test_it_goes_on_where_it_was_stopped(sampled, tmp_path):
    stopped = {**sampled, "run.results-dir": str(tmp_path)}

    def stop(message: Message) -> None:
        told = message.content.get(exchange.CONFIG)
        if isinstance(told, ConfigRecord) and told.get(exchange.ROUND) == 4:
            raise RunError("stopped")

    with pytest.raises(RunError, match="stopped"):
        run_here(stopped, on_send=stop)
    run_here(stopped)
    assert_same_run(path_of(sampled), path_of(stopped))


@pytest.mark.parametrize("kind", ["crash before training", "refusal", "nan"])
def test_whoever_is_drawn_and_gives_nothing_stops_no_run_and_counts_as_nothing(
    sampled, tmp_path, kind
):
    """A stop, or another share of the others, would tell who was drawn."""
    number, asked = next((k, a) for k, a in enumerate(asked_by_round(sampled), 1) if len(a) == 2)
    models = []
    for fault in ("lost on the way back", kind):
        flat = {**sampled, "run.results-dir": str(tmp_path / fault), "evaluation.shadow": False}

        run_with_faults(flat, Only(fault, number, asked[0]))
        models.append(read_run(path_of(flat))["model_sha256"])
        assert table(flat, "rounds")["rejected"].sum() == 1
    assert models[0] == models[1]


OFTEN = {"coordination.candidates": 3, "coordination.selected": 3}
"""So often that hardly a model is not sent, which goes to the next round's candidates."""


def test_the_books_hold_where_rounds_are_done_twice(flat):
    (count,) = count_releases(parse_config({**flat, **OFTEN}))
    assert count.holds
    assert count.releases >= 4


def test_books_that_forget_a_release_are_seen(flat, monkeypatch):
    def forgetful(self: ClientPrivacy, until: int) -> list[tuple[int, float]]:
        return [(number, planned_noise(self._config)) for number in range(1, until)]

    monkeypatch.setattr(ClientPrivacy, "_released", forgetful)
    (count,) = count_releases(parse_config({**flat, **OFTEN}))
    assert not count.holds


@pytest.mark.slow
def test_flower_s_engine_gives_the_same_bits(flat, sampled):
    flower = {**flat, "run.name": "flower"}
    path = directory_of(fnl("run", "--engine=flower", *settings(flower)))
    assert_same_run(path_of(sampled), path)
