"""Fairness of participation against the definition and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnl.metrics.fairness import gini, share_selected

selections = st.lists(st.integers(0, 50), min_size=1, max_size=30)


@given(selections)
def test_gini_is_half_the_mean_absolute_difference_over_the_mean(values):
    x = np.array(values, dtype=float)
    if x.sum() == 0:
        assert gini(x) is None
        return
    differences = np.abs(x[:, None] - x[None]).mean()
    assert gini(values) == pytest.approx(differences / (2 * x.mean()), abs=1e-12)
    assert gini(values[::-1]) == gini(values)
    assert gini(3 * x) == pytest.approx(gini(x))
    assert 0 <= gini(values) <= 1 - 1 / len(values) + 1e-12


@pytest.mark.parametrize("clients", [1, 2, 20])
def test_gini_in_closed_form(clients):
    assert gini(np.full(clients, 7)) == pytest.approx(0)
    assert gini(np.eye(clients)[0]) == pytest.approx(1 - 1 / clients)
    # selected 1, 2, …, N times: (N − 1) / 3N
    assert gini(np.arange(1, clients + 1)) == pytest.approx((clients - 1) / (3 * clients))


def test_gini_counts_those_never_selected():
    assert gini([1, 1, 0, 0]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"-1\.0 times"):
        gini([2, -1])


def test_share_selected():
    assert share_selected([0, 3, 1, 0]) == 0.5
    assert (share_selected([0, 0]), share_selected([1])) == (0, 1)
