"""What a round's rows say of shadow, floor and history, against SciPy and numbers by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fnl.wire.report import ClientReport, Rates, Unprotected
from server.context import History
from server.coordination import Coordination
from server.global_round import Decided, GlobalRound
from server.record.comparison import client_shift, floor_values, history_values, shadow_values

REPORT = ClientReport(
    partition=0, num_examples=10, steps=1, sample_rate=1.0, seconds=0.0,
    before=Rates(0.1, [0.1, 0.1], [0.1, np.nan]), after=Rates(0.2, [0.3, 0.1], [0.2, np.nan]),
    update_norm=1.0,
)  # fmt: skip


def decision(scores: list[float], top: int = 2) -> Coordination:
    selected = np.argsort(-np.array(scores), kind="stable")[:top]
    return Coordination(np.array(scores), selected, weights=np.full(top, 1 / top))


def played(partitions: list[int], scores: list[float], **more) -> GlobalRound:
    reports = tuple(replace(REPORT, partition=partition) for partition in partitions)
    weights = {"w": np.zeros(2, np.float32)}
    values = {"number": 1, "reports": reports, "decision": decision(scores)}
    values |= {"before": weights, "after": weights, "history": History.empty(6)}
    return GlobalRound(**(values | more))


def one_after_the_other(*rounds: tuple[list[int], list[float]], clients: int = 6) -> list:
    """Return what each of the rounds says of those before it."""
    history, last, said = History.empty(clients), np.full(clients, np.nan), []
    for number, (partitions, scores) in enumerate(rounds, 1):
        taken = [partitions[position] for position in decision(scores).selected]
        history = history.after(number, taken)
        said.append(history_values(played(partitions, scores, history=history), last))
        last[partitions] = scores
    return said


def test_a_ranking_is_compared_with_each_candidates_last_round():
    first, _, third = one_after_the_other(
        ([0, 1, 2, 3], [4.0, 3.0, 2.0, 1.0]),
        ([0, 1, 4, 5], [1.0, 5.0, 9.0, 0.0]),
        ([0, 1, 2, 3], [7.0, 1.0, 3.0, 2.0]),
    )
    assert first["candidates_previous"] == 0
    assert "kendall_tau_previous" not in first
    # 0 and 1 were last seen in round 2, 2 and 3 in round 1; 4 is not asked
    now, then = [7.0, 1.0, 3.0, 2.0], [1.0, 5.0, 2.0, 1.0]
    assert third["candidates_previous"] == 4
    assert third["kendall_tau_previous"] == stats.kendalltau(now, then).statistic
    assert third["spearman_rho_previous"] == stats.spearmanr(now, then).statistic
    assert third["jaccard_previous"] == pytest.approx(1 / 3)  # {0, 2} and {1, 2}
    assert third["flip_rate_previous"] == 0.5
    assert third["score_margin"] == 3.0 - 2.0


def test_of_a_subset_as_large_a_share_counts_as_selected():
    _, half = one_after_the_other(
        ([0, 1, 2, 3], [4.0, 3.0, 2.0, 1.0]), ([0, 1, 4, 5], [1.0, 2.0, 9.0, 8.0])
    )
    assert half["candidates_previous"] == 2
    assert half["kendall_tau_previous"] == -1
    assert (half["jaccard_previous"], half["flip_rate_previous"]) == (0, 1)  # the best of two


def test_participation_counts_all_clients_of_the_federation():
    first, second = one_after_the_other(
        ([0, 1, 2], [3.0, 2.0, 1.0]), ([1, 2, 3], [0.0, 2.0, 1.0]), clients=4
    )
    assert (first["selection_gini"], first["selected_share"]) == (pytest.approx(0.5), 0.5)
    assert second["selection_gini"] == pytest.approx(0)
    assert second["selected_share"] == 1


def with_shadow(partition: int, shadow: float, floor: float) -> ClientReport:
    return replace(
        REPORT, partition=partition,
        shadow=Unprotected(Rates(shadow, [0.1, 0.1], [0.05, np.nan]), distances=[0.1, 0.3]),
        floor=Unprotected(Rates(floor, [0.1, 0.1], [0.1, np.nan]), distances=[0.0, 0.1]),
    )  # fmt: skip


def test_shadow_and_floor_by_hand():
    reports = (with_shadow(0, 0.1, 0.2), with_shadow(1, 0.5, 0.4), with_shadow(2, 0.2, 0.2))
    made = played(
        [0, 1, 2], [3.0, 2.0, 1.0], reports=reports,
        after={"w": np.float32([3, 4])},
        shadow=Decided(decision([3.0, 1.0, 2.0]), {"w": np.float32([0, 10])}),
        floor=Decided(decision([1.0, 2.0, 3.0]), {"w": np.float32([6, 8])}),
    )  # fmt: skip
    shadow, floor = shadow_values(made), floor_values(made)
    assert shadow["rate_shift"] == pytest.approx((0.1 - 0.3 + 0.0) / 3)
    assert shadow["rate_shift_absolute"] == pytest.approx((0.1 + 0.3 + 0.0) / 3)
    assert shadow["rate_shift_distance"] == pytest.approx(0.2)
    assert shadow["rate_shift_classes"] == pytest.approx(0.15)
    assert (shadow["attenuation"], shadow["cosine_shadow"]) == (0.5, pytest.approx(0.8))
    assert shadow["kendall_tau_shadow"] == pytest.approx(1 / 3)
    assert floor["rate_shift_floor"] == pytest.approx((0.1 - 0.1 + 0.0) / 3)
    assert floor["rate_shift_absolute_floor"] == pytest.approx(0.2 / 3)
    assert floor["rate_shift_distance_floor"] == pytest.approx(0.05)
    assert (floor["attenuation_floor"], floor["cosine_floor"]) == (1, pytest.approx(0.8))
    assert floor["kendall_tau_floor"] == pytest.approx(-1 / 3)
    # of the shadow's selection {0, 2}, the floor keeps 2
    assert (floor["flip_rate_floor"], floor["jaccard_floor"]) == (0.5, pytest.approx(1 / 3))


def test_what_does_not_apply_is_left_out():
    plain = played([0, 1, 2], [3.0, 2.0, 1.0])
    assert shadow_values(plain) == floor_values(plain) == client_shift(REPORT) == {}
