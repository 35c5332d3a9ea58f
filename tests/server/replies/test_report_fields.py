"""No number in a report, nor any two of them, sets anything off: not at the boundary, nor after.

`FNL_PROPERTY_EXAMPLES=100000` tries that many; the fast tests try some.
"""

from __future__ import annotations

import os

import pytest
from flwr.app import Message, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fnl.config import parse_config
from fnl.privacy.ledger import Ledger
from fnl.training.plan import plan_of
from fnl.training.spending import noise_of, workload_of
from fnl.wire import exchange
from fnl.wire.report import ENTRIES
from server.replies.vetting import Expected, Shape, vet
from server.spending import Spending

EXAMPLES = int(os.environ.get("FNL_PROPERTY_EXAMPLES", "150"))
CONFIG = parse_config(
    {"coordination.minimum": 1, "privacy.delta": 1e-3, "privacy.rate-release": "none"}
)
CLIPS = 40
WORK = workload_of(CONFIG, 0, CLIPS)
NOISE = noise_of(CONFIG, WORK)
EDGES = [0.0, 5e-324, 1e-200, 1e-9, 1.0, 1e7, 1e30, 1.7e308]
numbers = st.one_of(
    st.floats(),
    st.sampled_from([*EDGES, *(-edge for edge in EDGES)]),
    st.integers(),
    st.integers(0, 50),
    st.sampled_from([2**53, 2**63 - 1, 2**64, 10**400, -(10**400)]),
)
values = st.one_of(numbers, st.lists(st.floats(), max_size=3), st.lists(st.integers(), max_size=3))
changes = st.dictionaries(st.sampled_from(sorted(ENTRIES)), values, min_size=1, max_size=2)
pytestmark = pytest.mark.usefixtures("flower_identity")


def _expected(accountant: str) -> Expected:
    return Expected(
        partition_of={11: 0}, messages={}, like={}, models=(), shape=Shape(1, 1, [CLIPS]),
        entries=frozenset({"epsilon"}), epsilons={}, max_update_norm=0.0, accountant=accountant,
        config=CONFIG,
    )  # fmt: skip


def _reply(report, changed) -> Message:
    plan = plan_of(CONFIG, CLIPS, 1)
    spent = Ledger(NOISE.round_of(WORK)).epsilon(1e-3, CONFIG.privacy.accountant)
    honest = report(
        0, num_examples=CLIPS, steps=plan.steps, sample_rate=plan.sample_rate, delta=1e-3,
        noise_multiplier=NOISE.gradients, epsilon=spent, clip_norm=CONFIG.privacy.clip_norm,
    )  # fmt: skip
    record = MetricRecord(dict(honest.to_record()))
    for name, value in changed.items():
        record[name.replace("_", "-")] = value
    asked = Message(RecordDict(), dst_node_id=11, message_type="train")
    return Message(RecordDict({exchange.METRICS: record}), reply_to=asked)


def test_the_honest_report_is_taken(report):
    taken, rejected = vet([_reply(report, {})], _expected(CONFIG.privacy.accountant))
    assert len(taken) == 1
    assert not rejected


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes, st.sampled_from(["rdp", "prv"]))
def test_any_two_numbers_are_taken_or_rejected_by_their_range(report, changed, accountant):
    taken, rejected = vet([_reply(report, changed)], _expected(accountant))
    assert len(taken) + len(rejected) == 1
    assert all("cannot be used" not in found.reason for found in rejected)
    spending = Spending(CONFIG)
    reports = [answer.report for answer in taken]
    spending.book(1, reports, rejected)
    spending.book(2, [], vet([], _expected(accountant))[1])  # then it is gone: a bound is reckoned
    Spending(CONFIG).restore(spending.state())
