"""Agreement of rankings against SciPy, the infinite sum of Webber et al., and sets by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fnl.metrics.ranking import (
    flip_rate,
    jaccard,
    kendall_tau,
    margin,
    order,
    rank_biased_overlap,
    ranks,
    spearman_rho,
)

# few distinct values, so that ties are common
scores = st.integers(2, 12).flatmap(
    lambda d: st.tuples(*[st.lists(st.integers(0, 4), min_size=d, max_size=d)] * 2)
)


def test_order_is_best_first_and_ties_go_to_the_earlier():
    assert order(np.array([0.1, 0.5, 0.5, 0.2, 0.5])).tolist() == [1, 2, 4, 3, 0]
    assert ranks(np.array([0.1, 0.5, 0.5, 0.2, 0.5])).tolist() == [5, 1, 2, 4, 3]
    assert order(np.zeros(5)).tolist() == [0, 1, 2, 3, 4]


@given(scores)
def test_ranks_are_those_of_scipy_with_ties_by_position(pair):
    a = np.array(pair[0], dtype=float)
    assert ranks(a).tolist() == stats.rankdata(-a, method="ordinal").tolist()
    assert (order(a)[ranks(a) - 1] == np.arange(len(a))).all()


def tau_b(a: list[int], b: list[int]) -> float | None:
    """Kendall's τ-b pair by pair, as it is defined."""
    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    product = sum(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i, j in pairs)
    untied = [sum(x[i] != x[j] for i, j in pairs) for x in (a, b)]
    return product / math.sqrt(untied[0] * untied[1]) if all(untied) else None


def rho(a: list[int], b: list[int]) -> float | None:
    """Pearson's correlation of mean ranks."""
    x, y = stats.rankdata(a), stats.rankdata(b)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


@settings(max_examples=200)
@given(scores)
def test_correlations_are_their_definitions_with_ties(pair):
    a, b = pair
    arrays = np.array(a, dtype=float), np.array(b, dtype=float)
    for statistic, definition in ((kendall_tau, tau_b), (spearman_rho, rho)):
        value, expected = statistic(*arrays), definition(a, b)
        assert (value is None) == (expected is None)
        assert value is None or value == pytest.approx(expected, abs=1e-12)


def test_correlations_are_scipys():
    a, b = np.random.default_rng(0).normal(size=(2, 30)).round(1)
    assert kendall_tau(a, b) == stats.kendalltau(a, b, variant="b").statistic
    assert spearman_rho(a, b) == stats.spearmanr(a, b).statistic
    assert kendall_tau(a, b) != pytest.approx(stats.kendalltau(a, b, variant="c").statistic)


def test_ends_of_the_scale_and_what_is_undefined():
    up = np.arange(6.0)
    for statistic in (kendall_tau, spearman_rho):
        assert statistic(up, 3 * up + 1) == pytest.approx(1)
        assert statistic(up, -up) == pytest.approx(-1)
        assert statistic(np.ones(1), np.ones(1)) is None
        assert statistic(up, np.ones(6)) is None
        assert statistic(np.ones(6), up) is None


def test_overlap_of_the_best_by_hand():
    a = np.array([9.0, 8, 7, 6, 5, 4])  # best three: 0 1 2
    b = np.array([9.0, 0, 7, 8, 6, 0])  # best three: 0 3 2
    assert jaccard(a, b, 3) == 2 / 4
    assert flip_rate(a, b, 3) == pytest.approx(1 / 3)
    assert (jaccard(a, b, 6), flip_rate(a, b, 6)) == (1, 0)
    assert (jaccard(a, -a, 3), flip_rate(a, -a, 3)) == (0, 1)
    # all tied: the earlier candidates are the best by both
    assert jaccard(np.zeros(6), np.ones(6), 2) == 1


@given(scores, st.integers(1, 12))
def test_jaccard_and_flip_rate_tell_the_same_story(pair, top):
    a, b = (np.array(x, dtype=float) for x in pair)
    flips = flip_rate(a, b, top)
    assert jaccard(a, b, top) == pytest.approx((1 - flips) / (1 + flips))
    assert flips == flip_rate(b, a, top)


def infinite_overlap(a: list[int], b: list[int], p: float, depth: int = 1200) -> float:
    """(1 − p) Σ_d p^(d−1) |A_:d ∩ B_:d| / d (Webber et al. 2010, eq. 4), summed term by term.

    The rankings are of the same candidates and go on alike, so that the extrapolation is exact.
    """
    more = list(range(1000, 1000 + depth))
    a, b = [*a, *more], [*b, *more]
    total = 0.0
    known_a: set[int] = set()
    known_b: set[int] = set()
    for d in range(1, depth):
        known_a.add(a[d - 1])
        known_b.add(b[d - 1])
        total += p ** (d - 1) * len(known_a & known_b) / d
    return (1 - p) * total


def scores_of(order_wanted: list[int]) -> np.ndarray:
    """Return scores under which the candidates come in this order."""
    result = np.empty(len(order_wanted))
    result[order_wanted] = -np.arange(len(order_wanted))
    return result


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(8)), st.permutations(range(8)), st.sampled_from([0.3, 0.8, 0.9, 0.98]))
def test_rank_biased_overlap_is_the_infinite_sum(a, b, p):
    value = rank_biased_overlap(scores_of(a), scores_of(b), p)
    assert value == pytest.approx(infinite_overlap(a, b, p), abs=1e-9)


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_rank_biased_overlap_in_closed_form(p):
    one = scores_of([0, 1, 2, 3])
    assert rank_biased_overlap(one, one, p) == pytest.approx(1)
    # the first two exchanged: agreement 0 at depth 1 (weight 1 − p), 1 from then on
    assert rank_biased_overlap(one, scores_of([1, 0, 2, 3]), p) == pytest.approx(p)
    # the last two exchanged: agreement 2/3 at depth 3 alone
    assert rank_biased_overlap(one, scores_of([0, 1, 3, 2]), p) == pytest.approx(
        1 - (1 - p) * p**2 / 3
    )
    # reversed: agreement 0, 0, 2/3, 1, 1, …
    assert rank_biased_overlap(one, scores_of([3, 2, 1, 0]), p) == pytest.approx(
        (1 - p) * p**2 * 2 / 3 + p**3
    )


def test_rank_biased_overlap_is_symmetric_and_weighs_the_top_more():
    one = scores_of(list(range(10)))
    top, bottom = scores_of([1, 0, *range(2, 10)]), scores_of([*range(8), 9, 8])
    assert rank_biased_overlap(one, top) < rank_biased_overlap(one, bottom) < 1
    assert rank_biased_overlap(one, top) == rank_biased_overlap(top, one)
    assert rank_biased_overlap(one, top) == rank_biased_overlap(one, top, 0.9)


def test_rank_biased_overlap_breaks_ties_by_position():
    assert rank_biased_overlap(np.zeros(5), np.arange(5.0)[::-1]) == pytest.approx(1)
    assert rank_biased_overlap(np.zeros(5), np.arange(5.0)) < 0.8


def test_margin_is_how_much_a_score_may_move_before_the_selection_does():
    values = np.array([0.2, 0.9, 0.5, 0.6])
    assert margin(values, 2) == pytest.approx(0.6 - 0.5)
    assert margin(values, 1) == pytest.approx(0.3)
    assert margin(np.array([1.0, 0.5, 0.5]), 2) == 0
    assert margin(values, 4) is None
