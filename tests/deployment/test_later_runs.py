"""What outlives a device's process: what its clips have cost, its noise and its adaptive bound."""

from __future__ import annotations

import json
import re

import pytest

import clients.app
from clients.device_budget import LARGEST_DELTA
from fnl.config import parse_config
from fnl.errors import DeviceError
from fnl.privacy.filter import order_of
from fnl.privacy.limits import MOST_NOISE
from fnl.training.spending import noise_of, workload_of
from fnl.wire import exchange
from server.replies.rejections import FaultKind, Rejection
from server.spending import Spending
from tests.deployment.served_device import ACCOUNTED, RUN, Served

DELTA = 1e-5


@pytest.fixture
def served(device_clips, tmp_path):
    return Served(device_clips, tmp_path / "state")


def test_a_first_run_adds_what_a_simulated_client_would(served):
    reports = served.run(run=1)
    config = parse_config(RUN)
    work = workload_of(config, 1, reports[0].num_examples)
    assert {report.noise_multiplier for report in reports} == {noise_of(config, work).gradients}
    assert 0.98 * 8 < served.ledger.epsilon(DELTA) <= 8


def test_a_later_run_spends_what_is_left_and_no_more(served, device_clips, tmp_path):
    (first,) = {report.noise_multiplier for report in served.run(run=1)}
    later = served.run(run=2, run__seed=5, privacy__epsilon=12.0)
    (noise,) = {report.noise_multiplier for report in later}  # the same in all its rounds
    assert 0.98 * 12 < served.ledger.epsilon(DELTA) <= 12
    assert later[-1].epsilon == served.ledger.epsilon(DELTA)
    other = Served(device_clips, tmp_path / "other")
    (alone,) = {r.noise_multiplier for r in other.run(run=2, run__seed=5, privacy__epsilon=12.0)}
    assert alone < noise < MOST_NOISE * alone
    assert alone < first


def test_with_nothing_useful_left_the_refusal_says_what_was_spent_and_what_would_be_right(served):
    served.run(run=1)
    before = served.ledger
    refused = served.ask(1, run=2, run__seed=5)
    assert list(refused) == [exchange.REFUSAL]
    reason = str(refused[exchange.REFUSAL]["reason"])
    assert "\n" not in reason
    assert f"have cost {before.epsilon(DELTA):.4g}" in reason
    assert served.ledger == before
    advised = re.search(r"first run: ([\d.]+) would", reason)
    assert advised is not None
    right = float(advised.group(1))
    assert 8 < right < 16.5
    served.run(run=3, run__seed=5, privacy__epsilon=right)
    assert served.ledger.epsilon(DELTA) <= right


@pytest.mark.parametrize("epsilon", [2.0, 7.9])
def test_a_run_below_what_was_spent_is_refused_the_same_way(served, epsilon):
    served.run(run=1)
    refused = served.ask(1, run=2, privacy__epsilon=epsilon)
    assert "is all but spent" in str(refused[exchange.REFUSAL]["reason"])


def test_a_resumed_run_goes_on_with_its_noise(served):
    served.ask(1, run=1)
    served.ask(2, run=2)  # of the same configuration: Flower gave it another id
    served.ask(3, run=2)
    assert len({report.noise_multiplier for report in served.reports}) == 1


def test_a_round_that_is_asked_for_again_is_paid_by_those_that_are_left(served):
    """The server was killed before it wrote the round down: nothing is overdrawn or refused."""
    served.ask(1)
    served.ask(2)
    served.ask(2, run=2)
    served.ask(3, run=2)
    first, _, again, last = (report.noise_multiplier for report in served.reports)
    assert again == last > first
    assert served.ledger.epsilon(DELTA) <= 8


def test_another_run_in_between_is_taken_into_account(served):
    served.ask(1)
    served.ask(1, run=2, run__seed=9, privacy__epsilon=7.0)
    for server_round in (2, 3):
        assert exchange.METRICS in served.ask(server_round)
    assert served.ledger.epsilon(DELTA) <= 8
    assert served.reports[-1].noise_multiplier > served.reports[0].noise_multiplier


def test_the_devices_own_budget_sets_the_noise_where_it_is_the_tighter(device_clips, tmp_path):
    served = Served(device_clips, tmp_path / "state", **{"epsilon-budget": 3})
    reports = served.run(run=1, **ACCOUNTED)
    assert 0.98 * 3 < served.ledger.epsilon(LARGEST_DELTA, order_of(3, LARGEST_DELTA)) <= 3
    assert len({report.noise_multiplier for report in reports}) == 1
    refused = served.ask(1, run=2, run__seed=1, **ACCOUNTED)
    assert "the device's epsilon-budget = 3 is all but spent" in str(
        refused[exchange.REFUSAL]["reason"]
    )


def test_releases_of_rates_are_counted_with_the_earlier_runs(served):
    rates = {"privacy__rate_release": "gaussian", "privacy__rate_epsilon": 1.0}
    served.run(run=1, **rates)
    served.run(run=2, run__seed=3, privacy__epsilon=14.0, **rates)
    assert 0.98 * 14 < served.ledger.epsilon(DELTA) <= 14
    releases = [entry for entry in served.ledger.entries if entry.sample_rate == 1.0]
    assert sum(entry.steps for entry in releases) == 6


def test_a_given_noise_is_not_changed_by_what_was_spent(served):
    served.run(run=1, privacy__noise_multiplier=1.5)
    (noise,) = {r.noise_multiplier for r in served.run(run=2, privacy__noise_multiplier=1.5)}
    assert noise == 1.5


def test_a_client_that_is_asked_beyond_the_schedule_refuses(served):
    refused = served.ask(4)
    assert "asks this client in no round" in str(refused[exchange.REFUSAL]["reason"])


ADAPTIVE = {"privacy__clipping": "adaptive", "privacy__clip_norm": 5.0}


class Kept:
    """Remembers the bounds that rounds start from, in place of a look into the process."""

    def __init__(self, monkeypatch) -> None:
        self.starts: list[float | None] = []
        train = clients.app.train_round

        def watched(*args, **options):
            self.starts.append(options["clip_norm"])
            return train(*args, **options)

        monkeypatch.setattr(clients.app, "train_round", watched)


@pytest.fixture
def kept(monkeypatch):
    return Kept(monkeypatch)


def test_a_restarted_device_goes_on_with_its_adaptive_bound(served, kept):
    """Every request here comes to a new process: none of Flower's context is left."""
    reports = served.run(run=1, **ADAPTIVE)
    ends = [report.clip_norm for report in reports]
    assert kept.starts == [None, ends[0], ends[1]]
    assert len({5.0, *ends}) == 4


def test_a_resumed_run_goes_on_with_its_bound_and_another_begins_anew(served, kept):
    served.ask(1, run=1, **ADAPTIVE)
    served.ask(2, run=2, **ADAPTIVE)  # resumed
    served.ask(2, run=2, **ADAPTIVE)  # the same round again: from where the bound stands
    assert kept.starts == [None, served.reports[0].clip_norm, served.reports[1].clip_norm]
    served.ask(1, run=3, run__seed=4, privacy__epsilon=20.0, **ADAPTIVE)
    assert kept.starts[-1] is None


def test_a_bound_that_was_edited_is_refused_with_the_ledger(served):
    served.ask(1, **ADAPTIVE)
    path = served.path
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"clip-norm": 2 * content["clip-norm"]}))
    with pytest.raises(DeviceError, match="changed by somebody else"):
        served.ask(2, **ADAPTIVE)


BOTH = {
    "privacy__mode": "both",
    "coordination__selection": "random",
    "coordination__aggregation": "fedavg",
}


def test_a_device_with_a_budget_takes_part_under_both_as_under_record(device_clips, tmp_path):
    """The device's part is the same; the client-level noise is the server's."""
    record, both = (
        Served(device_clips, tmp_path / name, **{"epsilon-budget": 4}) for name in ("one", "two")
    )
    record.run(run=1, **ACCOUNTED)
    both.run(run=1, **BOTH, **ACCOUNTED)
    assert both.ledger == record.ledger
    assert 0.98 * 4 < both.ledger.epsilon(LARGEST_DELTA, order_of(4, LARGEST_DELTA)) <= 4
    refused = both.ask(1, run=2, run__seed=1, **BOTH, **ACCOUNTED)
    assert "is all but spent" in str(refused[exchange.REFUSAL])


@pytest.mark.parametrize("mode", ["none", "client"])
def test_a_device_that_has_spent_takes_no_part_where_it_adds_no_noise(served, mode):
    served.run(run=1)
    before = served.ledger
    with pytest.raises(DeviceError, match="'record' or 'both' only"):
        served.ask(1, run=2, **BOTH | {"privacy__mode": mode})
    assert served.ledger == before


def test_what_a_silent_device_may_have_spent_is_bounded_by_budgets_alone(served):
    """What the rounds of this run cost is no bound on a ledger that holds earlier runs."""
    served.run(run=1)
    served.run(run=2, run__seed=5, privacy__epsilon=12.0)
    config = parse_config(RUN | {"privacy.epsilon": 12.0})
    own, blind = Spending(config, devices=True), Spending(config)
    for spending in (own, blind):
        spending.book(1, served.reports[3:4], [])
    true = served.reports[4].epsilon  # the answer that the server loses
    lost = [Rejection(1, FaultKind.NO_ANSWER, "nothing came before the deadline")]
    (bound,) = own.book(2, [], lost)
    assert bound == 12.0 >= true
    (bound,) = blind.book(2, [], lost)
    assert bound < true
