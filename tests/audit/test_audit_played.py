"""Audits that watch a run's messages: forgotten releases and concealed reading are caught."""

from __future__ import annotations

import json

import pytest

from fnl.audit.books import count_releases
from fnl.audit.steering import steering
from fnl.config import parse_config
from fnl.errors import ConfigError
from fnl.wire.fields import Cover
from fnl.wire.report import ENTRIES
from server.client_privacy import ClientPrivacy
from server.declaration import Declared
from server.spending import Spending
from tests.runs import settings

RELEASED = {"privacy.rate-release": "gaussian", "privacy.rate-epsilon": 2.0}
BOTH = {
    "privacy.mode": "both",
    "coordination.selection": "random",
    "coordination.aggregation": "fedavg",
    "coordination.candidates": 4,
}


@pytest.fixture
def private(small_config):
    """Return a function that gives the small federation with further keys."""
    base = {**small_config, "evaluation.shadow": False}
    return lambda **keys: parse_config(base | {k.replace("__", "."): v for k, v in keys.items()})


@pytest.mark.parametrize("keys", [RELEASED, BOTH, RELEASED | {"coordination.probe": True}])
def test_all_that_leaves_a_run_is_in_its_books(private, keys):
    found = count_releases(private(**keys))
    clients = [one for one in found if one.whose.startswith("client")]
    assert len(clients) == 4
    assert max(one.releases for one in clients) > 4  # rounds that were done twice are two releases
    for one in clients:
        assert one.reported == pytest.approx(one.counted, rel=1e-9)
    assert len(found) - len(clients) == ("privacy.mode" in keys)
    assert all(one.holds for one in found)


def test_rounds_that_clients_forget_to_have_done_twice_are_caught(private, monkeypatch):
    monkeypatch.setattr(Spending, "repeat", lambda *_: None)
    refuted = [one for one in count_releases(private(**RELEASED)) if not one.holds]
    assert refuted
    assert f"reports ε = {refuted[0].reported:.4g}" in refuted[0].described


def test_global_models_that_a_server_forgets_to_have_released_are_caught(private, monkeypatch):
    whole = ClientPrivacy._released
    monkeypatch.setattr(
        ClientPrivacy, "_released", lambda self, until: list(dict(whole(self, until)).items())
    )
    (server,) = [one for one in count_releases(private(**BOTH)) if "server" in one.whose]
    assert not server.holds
    assert server.counted > 1.1 * server.reported


def test_what_is_released_may_steer(private):
    found = steering(private(**RELEASED))
    assert found.found == found.said == ()
    assert found.holds
    assert "train_loss" in found.tried
    assert not {name for name in found.tried if ENTRIES[name].cover is Cover.RELEASED}


@pytest.mark.slow
def test_raw_rates_steer_and_the_run_says_so(private):
    found = steering(private())
    assert {"class_rates_after", "firing_rate_after"} <= set(found.found) <= set(found.said)
    assert found.holds


RULES = "tests.audit.concealing_rules"


def test_a_rule_that_reads_what_it_does_not_declare_is_caught(private, monkeypatch):
    monkeypatch.setattr(Declared, "shown", lambda _, report: report)  # it finds a way around
    found = steering(private(**RELEASED, coordination__selection=f"{RULES}:concealed"))
    assert found.found == ("loss_before",)
    assert not found.holds
    assert "loss_before" in found.described


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["said", "undeclared"])
def test_a_rule_that_says_what_it_reads_or_that_it_does_not_say_conceals_nothing(private, rule):
    found = steering(private(**RELEASED, coordination__selection=f"{RULES}:{rule}"))
    assert found.found == ("loss_before",)
    assert found.holds


def test_without_privacy_there_is_nothing_to_audit(private):
    for audit in (steering, count_releases):
        with pytest.raises(ConfigError, match=r"privacy\.mode = 'none'"):
            audit(private(privacy__mode="none"))


@pytest.mark.slow
def test_the_command_tells_both_and_fails_where_one_does_not_hold(private, command, monkeypatch):
    wanted = ("--target=steering", "--target=books")
    arguments = ("audit", *wanted, *settings(private(**RELEASED).flat()))
    code, out, err = command(*arguments, "--json")
    assert code == 0, err
    printed = json.loads(out)
    assert printed["steering"]["found"] == []
    assert [line["whose"] for line in printed["books"]] == [f"client {k}" for k in range(4)]
    monkeypatch.setattr(Spending, "repeat", lambda *_: None)
    code, out, err = command(*arguments)
    assert code == 1
    assert "the global model follows nothing" in out
    assert "releases seen" in out
    assert "releases that were seen cost" in err
