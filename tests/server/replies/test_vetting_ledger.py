"""What a report says it has spent, against the steps it speaks of: both accountants."""

from __future__ import annotations

import pytest
from flwr.app import Message, RecordDict

from fnl.privacy.budget import Budget, Workload
from fnl.privacy.ledger import Ledger
from fnl.wire import exchange
from server.replies.rejections import FaultKind
from server.replies.vetting import Expected, Shape, vet

WORK = Workload(sample_rate=0.2, steps=6, rounds=15, delta=1e-3)
accountants = pytest.mark.parametrize("accountant", ["rdp", "prv"])
pytestmark = pytest.mark.usefixtures("flower_identity")


def faults(
    report, epsilons: list[float], accountant: str, sigma: float = 1.1
) -> list[FaultKind | None]:
    """Vet one reply a round, each saying the next of `epsilons`."""
    found, before = [], {}
    for epsilon in epsilons:
        said = report(
            0, steps=WORK.steps, sample_rate=WORK.sample_rate, noise_multiplier=sigma,
            delta=WORK.delta, epsilon=epsilon,
        )  # fmt: skip
        asked = Message(RecordDict(), dst_node_id=11, message_type="train")
        reply = Message(RecordDict({exchange.METRICS: said.to_record()}), reply_to=asked)
        expected = Expected(
            partition_of={11: 0}, messages={}, like={}, models=(), shape=Shape(1, 1),
            entries=frozenset({"epsilon"}), epsilons=before, max_update_norm=0.0,
            accountant=accountant,
        )  # fmt: skip
        _, rejected = vet([reply], expected)
        found.append(rejected[0].kind if rejected else None)
        before = {0: epsilon}
    return found


def spent(accountant: str, rounds: int) -> list[float]:
    ledgers = (Ledger().spend(1.1, WORK.sample_rate, WORK.steps * n) for n in range(1, rounds + 1))
    return [ledger.epsilon(WORK.delta, accountant) for ledger in ledgers]


@accountants
def test_an_honest_client_is_believed_however_long_it_takes_part(report, accountant):
    # PRV changes its mesh on the way
    assert set(faults(report, spent(accountant, 40), accountant)) == {None}


@accountants
def test_less_than_the_round_costs_or_than_before_is_not_believed(report, accountant):
    first, second, third = spent(accountant, 3)
    assert faults(report, [first - 0.03], accountant) == [FaultKind.LEDGER]
    assert faults(report, [first, second, third, first], accountant)[-1] == FaultKind.LEDGER
    assert faults(report, [third, third - 0.03], accountant)[-1] == FaultKind.LEDGER


@accountants
def test_a_client_that_starts_from_a_budget_is_believed_in_every_round(report, accountant):
    noise = Budget(8.0, 0.0, accountant).noise_of(WORK)
    ledger, said = Ledger(), []
    for _ in range(WORK.rounds):
        ledger = ledger.with_entries(noise.round_of(WORK))
        said.append(ledger.epsilon(WORK.delta, accountant))
    assert said[-1] <= 8
    assert set(faults(report, said, accountant, noise.gradients)) == {None}
