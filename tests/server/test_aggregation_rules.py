"""Aggregation rules against their formulas by hand."""

import numpy as np
import pytest

from fnl.errors import RunError
from fnl.exchange import ClientReport
from server.aggregation import AGGREGATION_RULES, fedavg, normalised_weights, rate_weighted


def report(partition: int, num_examples: int, rate: float) -> ClientReport:
    return ClientReport(
        partition=partition, num_examples=num_examples, steps=1, sample_rate=1.0, seconds=0.0,
        firing_rate_before=0.9, firing_rate_after=rate,
        layer_rates_before=[0.9], layer_rates_after=[rate],
        class_rates_before=[0.9], class_rates_after=[rate], update_norm=1.0,
    )  # fmt: skip


REPORTS = [report(1, 10, 0.1), report(4, 30, 0.2), report(6, 10, 0.3)]


def given(*weights: float):
    """Return a rule that gives these weights."""
    return lambda _reports: np.array(weights)


def test_fedavg_weighs_by_clips():
    np.testing.assert_allclose(normalised_weights(REPORTS, fedavg), [0.2, 0.6, 0.2])


def test_rate_weighted_weighs_by_clips_times_the_rate_after_training():
    # 10·0.1, 30·0.2, 10·0.3 over their sum 10; the rate before, 0.9, has no part in it
    np.testing.assert_allclose(normalised_weights(REPORTS, rate_weighted), [0.1, 0.6, 0.3])


def test_a_silent_client_has_no_weight_under_the_rates():
    reports = [report(0, 5, 0.0), report(1, 5, 0.5)]
    assert normalised_weights(reports, rate_weighted).tolist() == [0, 1]


@pytest.mark.parametrize("rule", AGGREGATION_RULES.values(), ids=AGGREGATION_RULES.keys())
def test_weights_sum_to_one_and_move_with_their_client(rule):
    weights = normalised_weights(REPORTS, rule)
    assert weights.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_array_equal(normalised_weights(REPORTS[::-1], rule), weights[::-1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), -1e-9])
def test_weights_that_are_no_weights_are_refused_with_their_partition(bad):
    with pytest.raises(RunError, match="partition 4 the weight"):
        normalised_weights(REPORTS, given(1, bad, bad))


def test_all_zero_is_refused_with_a_remedy():
    silent = [report(0, 5, 0.0), report(1, 5, 0.0)]
    with pytest.raises(RunError, match="silent") as caught:
        normalised_weights(silent, rate_weighted)
    assert "coordination.aggregation" in str(caught.value)


@pytest.mark.parametrize("weights", [(), (1.0,), (1.0,) * 4])
def test_another_number_of_weights_is_refused(weights):
    with pytest.raises(RunError, match="one weight a client"):
        normalised_weights(REPORTS, given(*weights))
