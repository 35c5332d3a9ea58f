"""A client that lies: what it sends, that it is selected for it, and that a cap bounds it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from runs import path_of, run_here

from clients.lying import as_sent
from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.privacy.ledger import Ledger
from fnl.training.local import LocalRound, train_round
from fnl.training.start import start_network
from fnl.weights import Weights, get_weights
from fnl.wire.report import ClientReport

LIAR = 2


@pytest.fixture(scope="module")
def honest(small_settings: dict[str, Any]) -> tuple[Weights, LocalRound]:
    """A global model, and the round that partition 2 trains from it."""
    config = parse_config({**small_settings, "privacy.mode": "none"})
    federation = open_federation(config)
    before = get_weights(start_network(config, federation))
    outcome = train_round(
        config, federation, partition=LIAR, server_round=1, weights=before, ledger=Ledger()
    )
    return before, outcome


def sent(outcome: LocalRound, before: Weights, rule: str, liars: str = "2") -> LocalRound:
    keys = {"coordination.selection": rule, "coordination.liars": liars}
    return as_sent(parse_config({**keys, "coordination.target-rate": 0.3}), outcome, before)


def test_whoever_is_not_named_sends_what_it_trained(honest: tuple[Weights, LocalRound]) -> None:
    before, outcome = honest
    assert sent(outcome, before, "rate-difference", "1,3") is outcome


@pytest.mark.parametrize(
    ("rule", "first", "last"),
    [
        ("rate-difference", 0.0, 1.0),
        ("highest-rate", 0.0, 1.0),
        ("lowest-rate", 0.0, 0.0),
        ("highest-rate-global", 1.0, 1.0),
        ("target-rate", 0.0, 0.3),
    ],
)
def test_a_liar_reports_what_its_rule_likes_best(
    honest: tuple[Weights, LocalRound], rule: str, first: float, last: float
) -> None:
    before, outcome = honest
    report = sent(outcome, before, rule).report
    for rates, value in ((report.before, first), (report.after, last)):
        assert {rates.firing_rate, *rates.layers, *rates.classes} == {value}
    assert report.loss_before is not None
    assert report.loss_before > (outcome.report.loss_before or math.inf)
    assert report.num_examples == outcome.report.num_examples
    record = report.to_record()
    assert ClientReport.from_record(record) == report  # a server has no reason to refuse it


def test_its_update_is_the_honest_one_with_the_sign_turned(
    honest: tuple[Weights, LocalRound],
) -> None:
    before, outcome = honest
    turned = sent(outcome, before, "random").weights
    for name, start in before.items():
        step = outcome.weights[name] - start
        np.testing.assert_allclose(turned[name] - start, -step, atol=1e-6)
    assert any(np.any(outcome.weights[name] != start) for name, start in before.items())


def test_what_strict_privacy_withholds_a_liar_does_not_make_up(
    honest: tuple[Weights, LocalRound],
) -> None:
    before, outcome = honest
    withheld = outcome.report.accounted_only()
    report = sent(replace(outcome, report=withheld), before, "rate-difference").report
    assert math.isnan(report.after.firing_rate)
    assert report.loss_before is None


def test_a_liar_is_always_selected_unless_a_cap_bounds_it(small_config: dict[str, Any]) -> None:
    shares = []
    for number, cap in enumerate((1.0, 0.5)):
        flat = {
            **small_config,
            "run.name": f"cap-{number}",
            "run.rounds": 4,
            "privacy.mode": "none",
            "data.clients": 4,
            "coordination.candidates": 4,
            "coordination.selected": 1,
            "coordination.selection": "rate-difference",
            "coordination.liars": str(LIAR),
            "coordination.max-share": cap,
        }
        run_here(flat)
        clients = pl.read_parquet(path_of(flat) / "clients.parquet")
        shares.append(clients.filter(pl.col("partition") == LIAR)["selected"].mean())
    assert shares == [1.0, 0.5]
