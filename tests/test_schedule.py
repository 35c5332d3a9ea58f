"""The public schedule of candidates: pinned, uniform, and counted right in advance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fnl.schedule import candidates, planned_participations


def test_the_schedule_is_pinned():
    assert candidates(0, 1, 20, 10).tolist() == [0, 1, 4, 7, 8, 9, 11, 12, 14, 16]


@settings(max_examples=50)
@given(st.data(), st.integers(0, 2**63 - 1), st.integers(0, 1000), st.integers(1, 200))
def test_candidates_are_distinct_sorted_partitions(data, seed, server_round, clients):
    count = data.draw(st.integers(1, clients))
    drawn = candidates(seed, server_round, clients, count)
    assert drawn.dtype == np.int64
    assert len(drawn) == count
    assert (np.diff(drawn) > 0).all()
    assert drawn[0] >= 0
    assert drawn[-1] < clients
    assert (drawn == candidates(seed, server_round, clients, count)).all()


def test_every_client_is_drawn_equally_often_and_rounds_are_independent():
    clients, count, rounds = 20, 5, 2000
    drawn = np.zeros((rounds, clients))
    for server_round in range(rounds):
        drawn[server_round, candidates(3, server_round, clients, count)] = 1
    share = count / clients
    # counts of draws without replacement have covariance R p(1-p) (I N - 1)/(N-1)
    deviation = ((drawn.sum(axis=0) - rounds * share) ** 2).sum()
    statistic = deviation * (clients - 1) / clients / (rounds * share * (1 - share))
    assert 1e-3 < stats.chi2.sf(statistic, clients - 1) < 1 - 1e-3
    # overlap of consecutive rounds: hypergeometric mean m²/N
    overlap = (drawn[1:] * drawn[:-1]).sum(axis=1)
    spread = stats.hypergeom(clients, count, count).std() / np.sqrt(rounds - 1)
    assert abs(overlap.mean() - count**2 / clients) < 4 * spread


def test_the_plan_counts_the_rounds_that_come():
    planned = planned_participations(5, 30, 12, 7)
    counted = [0] * 12
    for server_round in range(1, 31):  # Flower numbers rounds from 1
        for partition in candidates(5, server_round, 12, 7):
            counted[partition] += 1
    assert planned.tolist() == counted
    assert planned.sum() == 30 * 7


def test_everyone_is_planned_for_every_round_if_all_are_asked():
    assert planned_participations(0, 4, 3, 3).tolist() == [4, 4, 4]


def test_the_plan_is_shared_and_so_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        planned_participations(0, 2, 4, 2)[0] = 1


@settings(max_examples=50)
@given(st.data(), st.integers(0, 2**63 - 1), st.integers(1, 60), st.integers(1, 40))
def test_in_turn_everyone_is_asked_equally_often_and_far_apart(data, seed, rounds, clients):
    count = data.draw(st.integers(1, clients))
    asked = np.zeros((rounds, clients), np.int64)
    for number in range(rounds):
        drawn = candidates(seed, number + 1, clients, count, "balanced")
        assert drawn.tolist() == sorted(set(drawn.tolist()))
        asked[number, drawn] = 1
    assert (asked.sum(axis=1) == count).all()
    planned = planned_participations(seed, rounds, clients, count, "balanced")
    assert asked.sum(axis=0).tolist() == planned.tolist()
    assert planned.max() == -(-rounds * count // clients)
    assert planned.max() - planned.min() <= 1
    for partition in range(clients):
        assert (np.diff(np.flatnonzero(asked[:, partition])) >= clients // count).all()


def test_the_order_of_turns_is_drawn_by_the_seed():
    orders = {tuple(candidates(seed, 1, 9, 3, "balanced")) for seed in range(50)}
    assert len(orders) > 25
