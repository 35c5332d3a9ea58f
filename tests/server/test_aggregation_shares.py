"""Rules that give shares: against their formulas by hand, and what they return is checked."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from fnl.config.rules import AGGREGATIONS, ROBUST, WEIGHTINGS
from fnl.errors import RunError
from server.aggregation import (
    AGGREGATION_RULES,
    ROBUST_RULES,
    Mixing,
    Shares,
    combine,
    reads,
    shares_of,
)
from server.aggregation.rules import afedsnn, mixing_coefficients


@pytest.fixture
def reports(report):
    clips_and_rates = {1: (10, 0.1), 4: (30, 0.2), 6: (10, 0.3)}
    return [
        report(p, num_examples=n, firing_rate_after=r, firing_rate_before=0.9)
        for p, (n, r) in clips_and_rates.items()
    ]


@pytest.fixture
def weights_of(in_round):
    def weights(reports, rule, **settings):
        round_ = in_round(reports, count=len(reports), **settings)
        return shares_of(reports, rule, round_, name="mine").clients

    return weights


def given(*weights):
    """Return a rule that gives these weights."""
    return lambda reports, context: np.array(weights)


def test_every_name_of_the_configuration_is_a_rule():
    assert set(WEIGHTINGS) == AGGREGATION_RULES.keys()
    assert set(ROBUST) == ROBUST_RULES.keys()
    assert set(AGGREGATIONS) == AGGREGATION_RULES.keys() | ROBUST_RULES.keys()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("fedavg", [0.2, 0.6, 0.2]),
        # 10·0.1, 30·0.2, 10·0.3 over their sum 10; the rate before, 0.9, has no part in it
        ("rate-weighted", [0.1, 0.6, 0.3]),
        # 10/0.2, 30/0.3, 10/0.4 over their sum 175
        ("inverse-rate", [50 / 175, 100 / 175, 25 / 175]),
    ],
)
def test_weights_are_those_of_the_formula(rule, expected, reports, weights_of):
    weights = weights_of(reports, AGGREGATION_RULES[rule], rate_offset=0.1)
    np.testing.assert_allclose(weights, expected)
    backwards = weights_of(reports[::-1], AGGREGATION_RULES[rule], rate_offset=0.1)
    np.testing.assert_array_equal(backwards[::-1], weights)


def test_a_silent_client_has_no_weight_under_the_rates(report, weights_of):
    reports = [report(0, firing_rate_after=0.0), report(1, firing_rate_after=0.5)]
    assert weights_of(reports, AGGREGATION_RULES["rate-weighted"]).tolist() == [0, 1]
    assert weights_of(reports, AGGREGATION_RULES["inverse-rate"]).argmax() == 0


def test_afedsnn_is_its_formula(report, in_round):
    rates, clips = [0.1, 0.2, 0.6], [10, 20, 10]
    candidates = [
        report(p, firing_rate_after=r, num_examples=n)
        for p, (r, n) in enumerate(zip(rates, clips, strict=True))
    ]
    # before round 4: 0 was taken in round 3 and is of age 0, 1 in round 1, 2 never
    round_ = in_round(candidates, count=2, past=[[1], [], [0]], mixing=2.0)
    mean = sum(rates) / 3
    variance = sum((rate - mean) ** 2 for rate in rates) / 3
    expected = [
        2.0 / (1 + math.exp(age)) * n / 40 * math.exp(-((rate - mean) ** 2) / (2 * variance))
        for age, n, rate in zip([0, 2, 3], clips, rates, strict=True)
    ]
    alphas = mixing_coefficients(candidates, round_)
    np.testing.assert_allclose(alphas, expected)
    # n, μ and σ are those of the candidates, whoever is selected
    np.testing.assert_array_equal(mixing_coefficients(candidates[1:], round_), alphas[1:])


def test_afedsnn_mixes_one_after_the_other_in_partition_order(reports, in_round, models):
    best_first = [reports[2], reports[0], reports[1]]
    round_ = in_round(reports, count=3, mixing=1.9)
    shares = shares_of(best_first, afedsnn, round_, name="afedsnn")
    before = models[6]
    mixed = combine(1, best_first, models[:3], shares, before=before)
    alphas = mixing_coefficients(best_first, round_)
    expected = before
    for position in (1, 2, 0):  # partitions 1, 4, 6
        expected = {
            name: (1 - alphas[position]) * value + alphas[position] * models[position][name]
            for name, value in expected.items()
        }
    for name, value in expected.items():
        np.testing.assert_allclose(mixed[name], value, rtol=1e-5, atol=1e-6)
    assert shares.kept == pytest.approx(np.prod(1 - alphas))


def test_afedsnn_bears_equal_rates_old_clients_and_any_kappa(report, in_round):
    equal = [report(p, firing_rate_after=0.1) for p in range(3)]
    alphas = mixing_coefficients(equal, in_round(equal, mixing=3.0))
    np.testing.assert_allclose(alphas, [0.5] * 3)
    old = in_round(equal, server_round=5000)
    assert (mixing_coefficients(equal, old) == 0).all()
    nobody = shares_of(equal, afedsnn, old, name="afedsnn")
    assert nobody.clients.tolist() == [0, 0, 0]
    assert nobody.kept == 1
    assert "'afedsnn' mixed nobody in" in nobody.note
    huge = shares_of(equal, afedsnn, in_round(equal, mixing=1e9), name="afedsnn")
    assert huge.clients.tolist() == [0, 0, 1]  # the last in partition order replaces all
    assert huge.kept == 0


@pytest.mark.parametrize("kept", [0.0, 0.25])
def test_shares_combine_as_a_sum_over_models(kept, reports, models):
    shares = np.array([0.5, 0.3, 0.2]) * (1 - kept)
    combined = combine(1, reports, models[:3], Shares(shares, kept), before=models[6])
    for name, value in combined.items():
        stacked = np.stack([m[name].astype(np.float64) for m in (*models[:3], models[6])])
        expected = np.tensordot(np.array([*shares, kept]), stacked, axes=1)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
        assert value.dtype == np.float32


@pytest.mark.parametrize("wrap", [np.array, lambda weights: Mixing(np.array(weights))])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), -1e-9])
def test_weights_that_are_no_weights_are_refused_with_their_partition(
    bad, wrap, reports, weights_of
):
    with pytest.raises(RunError, match="'mine' gave partition 4 the weight"):
        weights_of(reports, lambda reports, context: wrap([0.1, bad, bad]))


@pytest.mark.parametrize("weights", [(), (1.0,), (1.0,) * 4, ((1.0,) * 3,)])
def test_another_number_of_weights_is_refused(weights, reports, weights_of):
    with pytest.raises(RunError, match=r"'mine' .*one weight a client"):
        weights_of(reports, given(*weights))


@pytest.mark.parametrize("returned", [None, "all", {"a": 1}])
def test_what_is_no_number_is_refused(returned, reports, weights_of):
    with pytest.raises(RunError, match=r"'mine' .*one weight a client"):
        weights_of(reports, lambda reports, context: returned)


def test_a_mixing_of_more_than_one_is_refused(reports, in_round):
    check = partial(shares_of, reports, context=in_round(reports), name="mine")
    with pytest.raises(RunError, match=r"'mine' mixes in shares that sum to 1\.2"):
        check(lambda reports, context: Mixing(np.array([0.4, 0.4, 0.4])))
    whole = check(lambda reports, context: Mixing(np.array([0.5, 0.25, 0.25])))
    assert whole.kept == 0
    part = check(lambda reports, context: Mixing(np.array([0.25, 0.125, 0.125])))
    assert (part.clients.tolist(), part.kept) == ([0.25, 0.125, 0.125], 0.5)


@pytest.mark.parametrize("name", ["rate-weighted", "mine"])
def test_weights_that_are_all_zero_are_those_of_the_clips(report, in_round, name):
    """Reproduction: one client of rate 0, selected alone, ended everybody's run."""
    reports = [report(p, num_examples=n, firing_rate_after=0.0) for p, n in ((0, 10), (1, 30))]
    rule = AGGREGATION_RULES.get(name) or given(0.0, 0.0)
    shares = shares_of(reports, rule, in_round(reports), name=name)
    assert shares.clients.tolist() == [0.25, 0.75]
    assert shares.kept == 0
    assert f"'{name}' gave every selected client the weight 0" in shares.note
    assert "silent? lower model.threshold" in shares.note


def test_a_mixing_of_nobody_keeps_the_model(report, in_round):
    reports = [report(p) for p in range(2)]
    shares = shares_of(reports, lambda *_: Mixing(np.zeros(2)), in_round(reports), name="mine")
    assert (shares.clients.tolist(), shares.kept) == ([0, 0], 1)
    assert "'mine' mixed nobody in" in shares.note


def test_a_rule_that_reads_no_clips_keeps_the_model(report, in_round):
    rule = reads("firing_rate_after")(
        lambda reports, context: np.array([r.firing_rate_after for r in reports])
    )
    reports = [report(p, num_examples=10, firing_rate_after=0.0) for p in range(2)]
    shares = shares_of(reports, rule, in_round(reports), name="mine")
    assert shares.clients.tolist() == [0, 0]
    assert shares.kept == 1
    assert "the model stays as it was" in shares.note
