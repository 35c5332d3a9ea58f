"""Selection rules against their formulas by hand."""

from dataclasses import replace

import numpy as np
import pytest

from fnl.errors import RunError
from fnl.exchange import ClientReport
from fnl.randomness import Purpose, stream
from server.selection import SELECTION_RULES, random_scores, rate_difference, select

NAN = float("nan")


def report(partition: int, before: list[float], after: list[float]) -> ClientReport:
    return ClientReport(
        partition=partition, num_examples=10, steps=1, sample_rate=1.0, seconds=0.0,
        firing_rate_before=0.1, firing_rate_after=0.1,
        layer_rates_before=[0.1], layer_rates_after=[0.1],
        class_rates_before=before, class_rates_after=after, update_norm=1.0,
    )  # fmt: skip


def generator(seed: int = 0) -> np.random.Generator:
    return stream(seed, Purpose.SELECTION, 1)


def given(*scores: float):
    """Return a rule that gives these scores."""
    return lambda reports, stream: np.array(scores)


REPORTS = [report(p, [0.1], [0.1]) for p in (2, 3, 5, 8, 13)]


def test_rate_difference_sums_what_changed_class_by_class_and_without_sign():
    reports = [
        report(0, [0.1, 0.2, 0.3], [0.2, 0.1, 0.3]),  # the network rate is the same, classes moved
        report(1, [0.1, 0.2, 0.3], [0.15, 0.25, 0.35]),
        report(2, [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]),
        report(3, [0.5, NAN, 0.3], [0.1, NAN, 0.3]),  # no clip of the second class
        report(4, [NAN, NAN, NAN], [NAN, NAN, NAN]),
    ]
    np.testing.assert_allclose(rate_difference(reports, generator()), [0.2, 0.15, 0, 0.4, 0])
    scores, chosen = select(reports, rate_difference, 2, generator())
    assert chosen.tolist() == [3, 0]
    np.testing.assert_allclose(scores, [0.2, 0.15, 0, 0.4, 0])


def test_the_best_come_first_and_ties_go_to_the_lower_partition():
    scores, chosen = select(REPORTS, given(0.3, 0.9, 0.3, 0.9, 0.1), 3, generator())
    assert chosen.tolist() == [1, 3, 0]
    assert scores.tolist() == [0.3, 0.9, 0.3, 0.9, 0.1]
    assert select(REPORTS, given(0, 0, 0, 0, 0), 3, generator())[1].tolist() == [0, 1, 2]
    assert select(REPORTS, given(-3, -1, -2, -5, -4), 2, generator())[1].tolist() == [1, 2]


def test_random_selection_is_a_uniform_sample_that_replays():
    counts = np.zeros(5)
    for seed in range(2000):
        _scores, chosen = select(REPORTS, random_scores, 2, generator(seed))
        assert select(REPORTS, random_scores, 2, generator(seed))[1].tolist() == chosen.tolist()
        assert len(set(chosen.tolist())) == 2
        counts[chosen] += 1
    spread = np.sqrt(2000 * 0.4 * 0.6)
    assert np.abs(counts - 800).max() < 4 * spread


def test_random_selection_does_not_look_at_the_reports():
    others = [replace(r, num_examples=99, class_rates_after=[1.0]) for r in REPORTS]
    assert (random_scores(REPORTS, generator()) == random_scores(others, generator())).all()


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_a_score_that_is_not_finite_is_refused_with_its_partition(bad):
    with pytest.raises(RunError, match="partition 5 a score that is not finite"):
        select(REPORTS, given(1, 2, bad, 3, bad), 2, generator())


@pytest.mark.parametrize("scores", [(), (1.0,), (1.0,) * 6])
def test_another_number_of_scores_is_refused(scores):
    with pytest.raises(RunError, match="one score a candidate"):
        select(REPORTS, given(*scores), 2, generator())


def test_rules_that_return_a_list_or_whole_numbers_are_fine():
    chosen = select(REPORTS, lambda reports, stream: [1, 2, 3, 4, 5], 1, generator())[1]  # type: ignore[arg-type,return-value]
    assert chosen.tolist() == [4]


def test_the_documented_example_is_a_rule(monkeypatch):
    def highest_rate(reports, stream):
        return np.array([report.firing_rate_after for report in reports])

    monkeypatch.setitem(SELECTION_RULES, "highest-rate", highest_rate)
    reports = [replace(r, firing_rate_after=n / 10) for n, r in enumerate(REPORTS)]
    assert select(reports, SELECTION_RULES["highest-rate"], 2, generator())[1].tolist() == [4, 3]
