"""What a selection rule returns is checked: a wrong rule stops the run with one line."""

from __future__ import annotations

import numpy as np
import pytest

from fnl.errors import RunError
from server.selection import Selection, select

NAN = float("nan")


def given(*scores):
    """Return a rule that gives these scores."""
    return lambda reports, context: np.array(scores)


@pytest.fixture
def reports(report):
    return [report(p) for p in (2, 3, 5, 8, 13)]


@pytest.fixture
def choose(reports, in_round):
    return lambda rule, count=2: select(reports, rule, in_round(reports, count=count), name="mine")


def test_the_best_come_first_and_ties_go_to_the_lower_partition(choose):
    choice = choose(given(0.3, 0.9, 0.3, 0.9, 0.1), 3)
    assert choice.selected.tolist() == [1, 3, 0]
    assert choice.scores.tolist() == [0.3, 0.9, 0.3, 0.9, 0.1]
    assert choose(given(0, 0, 0, 0, 0), 3).selected.tolist() == [0, 1, 2]
    assert choose(given(-3, -1, -2, -5, -4)).selected.tolist() == [1, 2]


def test_lists_and_whole_numbers_are_fine(choose):
    assert choose(lambda reports, context: [1, 2, 3, 4, 5], 1).selected.tolist() == [4]


def test_an_order_of_its_own_is_taken_as_it_is(choose):
    choice = choose(lambda reports, context: Selection(np.arange(5.0), np.array([2, 0])))
    assert choice.selected.tolist() == [2, 0]
    assert choice.scores.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_a_score_that_is_not_finite_is_refused_with_its_partition(bad, choose):
    with pytest.raises(RunError, match="'mine' gave partition 5 a score that is not finite"):
        choose(given(1, 2, bad, 3, bad))


@pytest.mark.parametrize("scores", [(), (1.0,), (1.0,) * 6, ((1.0,) * 5,)])
def test_another_number_of_scores_is_refused(scores, choose):
    with pytest.raises(RunError, match=r"'mine' .*one score a candidate"):
        choose(given(*scores))


@pytest.mark.parametrize("returned", [None, "high", object()])
def test_what_is_no_number_is_refused(returned, choose):
    with pytest.raises(RunError, match=r"'mine' .*one score a candidate"):
        choose(lambda reports, context: returned)


@pytest.mark.parametrize(
    ("selected", "message"),
    [
        ([1, 1], "'mine' selected partition 3 more than once"),
        ([0, 1, 2], "must select coordination.selected = 2"),
        ([0], "must select coordination.selected = 2"),
        ([0.0, 1.0], "by their position"),
        ([True, False], "by their position"),
        ([0, 5], "'mine' selected position 5: there are positions 0 to 4"),
        ([-1, 0], "'mine' selected position -1"),
    ],
)
def test_a_choice_that_is_none_is_refused(selected, message, choose):
    with pytest.raises(RunError, match=message) as caught:
        choose(lambda reports, context: Selection(np.arange(5.0), np.array(selected)))
    assert "\n" not in str(caught.value)


def test_scores_beside_a_choice_are_checked_too(choose):
    with pytest.raises(RunError, match="one score a candidate"):
        choose(lambda reports, context: Selection(np.arange(4.0), np.array([0, 1])))
