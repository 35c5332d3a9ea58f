"""A round that is done again with fresh noise has left twice, and is charged twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from opacus.accountants import RDPAccountant

from fnl.config import parse_config
from fnl.errors import ConfigError, RunError
from fnl.privacy.client_level import planned_noise
from fnl.privacy.ledger import RDP_ORDERS
from fnl.runtime.in_process import run_in_process
from fnl.runtime.releases import Releases, What
from fnl.schedule import candidates
from server.client_privacy import ClientPrivacy

ROUNDS = 12
CONFIG = {
    "privacy.mode": "client", "coordination.selection": "random",
    "coordination.aggregation": "fedavg", "privacy.client-delta": 0.01, "run.rounds": ROUNDS,
    "privacy.accountant": "rdp", "privacy.secure-noise": True,
}  # fmt: skip


def model(value: float):
    return {"w": np.array([value], np.float32)}


def spent(path: Path, delta: float) -> float:
    """Return the largest ε of what is on the disk, by Opacus' accountant fed release by release."""
    accountants = [RDPAccountant() for _ in range(20)]
    for release in Releases(path).of(What.MODEL):
        for partition in candidates(0, release.server_round, 20, 12):
            accountants[partition].step(noise_multiplier=release.noise_multiplier, sample_rate=1.0)
    return max(
        a.get_privacy_spent(delta=delta, alphas=RDP_ORDERS)[0] for a in accountants if a.history
    )


def carry(config, path, done: int, until: int) -> list[float]:
    """Do the rounds behind `done` to `until`, as a process does that is killed after that."""
    privacy = ClientPrivacy(config, Releases(path), done)
    return [
        privacy.book(number, privatised(privacy, number, 1.0))
        for number in range(done + 1, until + 1)
    ]


def privatised(privacy: ClientPrivacy, number: int, answer: float):
    return privacy.privatise(number, model(0), [model(answer)], np.ones(1), largest_share=1.0)


@pytest.mark.parametrize("checkpoint", [0, 4])
def test_a_run_killed_after_round_seven_keeps_its_budget_and_counts_what_left(tmp_path, checkpoint):
    config = parse_config(CONFIG)
    carry(config, tmp_path, 0, 7)
    epsilons = carry(config, tmp_path, checkpoint, ROUNDS)
    assert len(list(Releases(tmp_path).of(What.MODEL))) == 7 + ROUNDS - checkpoint
    assert epsilons[-1] == pytest.approx(spent(tmp_path, 0.01), rel=1e-6)
    assert 7.8 < epsilons[-1] <= 8
    # what the ledger said that forgot: fewer rounds, and less noise than was needed
    assert ClientPrivacy(config, Releases(tmp_path), checkpoint).noise_multiplier > planned_noise(
        config
    )


def test_a_fixed_noise_is_reported_for_all_that_left(tmp_path):
    config = parse_config({**CONFIG, "privacy.client-noise-multiplier": 2.0})
    once = carry(config, tmp_path / "once", 0, 6) if (tmp_path / "once").mkdir() is None else []
    twice_path = tmp_path / "twice"
    twice_path.mkdir()
    carry(config, twice_path, 0, 6)
    twice = carry(config, twice_path, 0, 6)
    assert twice[-1] == pytest.approx(spent(twice_path, 0.01), rel=1e-6)
    assert twice[-1] > once[-1] * 1.3


def test_seeded_noise_gives_the_same_bits_again_and_costs_nothing(tmp_path):
    config = parse_config({**CONFIG, "privacy.secure-noise": False})
    first = carry(config, tmp_path, 0, 7)
    again = carry(config, tmp_path, 4, ROUNDS)
    assert again[:3] == first[4:]
    assert len(list(Releases(tmp_path).of(What.MODEL))) == ROUNDS
    assert 7.8 < again[-1] <= 8


def test_another_model_under_the_same_seeded_noise_is_refused(tmp_path):
    config = parse_config({**CONFIG, "privacy.secure-noise": False})
    carry(config, tmp_path, 0, 7)
    privacy = ClientPrivacy(config, Releases(tmp_path), 4)
    other = privatised(privacy, 5, 0.5)  # one answer is another
    with pytest.raises(RunError, match=r"round 5 was released before .* would cancel"):
        privacy.book(5, other)


def test_a_budget_that_is_gone_is_refused(tmp_path):
    generous = parse_config({**CONFIG, "privacy.client-noise-multiplier": 0.5})
    carry(generous, tmp_path, 0, 7)
    with pytest.raises(ConfigError, match="epsilon"):
        ClientPrivacy(parse_config(CONFIG), Releases(tmp_path), 0)


def test_clients_book_again_what_they_were_asked_with_fresh_noise(small_config):
    """The record-level ledgers of a simulation that draws from the operating system."""
    flat = parse_config(
        {
            **small_config, "run.name": "run", "run.rounds": 4, "evaluation.shadow": False,
            "privacy.secure-noise": True, "privacy.accountant": "rdp",
            "privacy.noise-multiplier": 2.0,
        }
    ).flat()  # fmt: skip
    path = Path(flat["run.results-dir"]) / "run"

    def run(client_app: str):
        run_in_process(parse_config(flat), client_app=client_app, notify=lambda _: None)

    with pytest.raises(RunError):
        run("tests.faults.failing_in_round_three:app")
    for checkpoint in (path / "checkpoints").glob("round-*"):
        checkpoint.unlink()  # as if it had been killed: it begins anew
    run("clients.app:app")
    asked = np.zeros(flat["data.clients"], int)
    for release in Releases(path).of(What.ASKED):
        asked[candidates(0, release.server_round, len(asked), flat["coordination.candidates"])] += 1
    clients = pl.read_parquet(path / "clients.parquet")
    for row in clients.group_by("partition").last().iter_rows(named=True):
        accountant, partition = RDPAccountant(), row["partition"]
        for _ in range(row["steps"] * asked[partition]):
            accountant.step(noise_multiplier=2.0, sample_rate=row["sample_rate"])
        expected, _ = accountant.get_privacy_spent(delta=row["delta"], alphas=RDP_ORDERS)
        # asked as often after the last row as in it: the ledger has all of them
        assert row["epsilon"] == pytest.approx(expected, rel=1e-6)
