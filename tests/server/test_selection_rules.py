"""Each selection rule against its formula by hand, or against an independent sampler."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest

from fnl.config.rules import NOISE, SELECTIONS
from fnl.wire.report import ENTRIES
from server.selection import SELECTION_RULES, Selection, select, selection_rule

NAN = float("nan")


def chosen(rule: str, reports, context) -> list[int]:
    """Return the partitions that `rule` selects, best first."""
    selection = select(reports, SELECTION_RULES[rule], context, name=rule)
    return [reports[position].partition for position in selection.selected]


def scores(rule: str, reports, context):
    returned = SELECTION_RULES[rule](reports, context)
    return returned.scores if isinstance(returned, Selection) else returned


def read_by(rule: str) -> dict[str, object]:
    """Return a 1 for every number that `rule` reads, but those of noise: there is none."""
    entries = {name: ENTRIES[name] for name in SELECTIONS[rule] - NOISE - {"partition"}}
    return {name: entry.kind(1) for name, entry in entries.items() if entry.kind is not list}


def test_every_name_of_the_configuration_is_a_rule():
    assert set(SELECTIONS) == SELECTION_RULES.keys()
    assert all(selection_rule(name) is SELECTION_RULES[name] for name in SELECTIONS)


def test_rate_difference_sums_what_changed_class_by_class(report, in_round):
    before = [0.1, 0.2, 0.3]
    changes = [
        ([0.1, 0.2, 0.3], [0.2, 0.1, 0.3]),  # the network's rate is the same, classes moved
        (before, [0.15, 0.25, 0.35]),
        (before, before),
        ([0.5, NAN, 0.3], [0.1, NAN, 0.3]),  # no clip of the second class
        ([NAN] * 3, [NAN] * 3),
    ]
    reports = [
        report(p, class_rates_before=b, class_rates_after=a) for p, (b, a) in enumerate(changes)
    ]
    round_ = in_round(reports)
    np.testing.assert_allclose(scores("rate-difference", reports, round_), [0.2, 0.15, 0, 0.4, 0])
    signed = scores("rate-difference-signed", reports, round_)
    np.testing.assert_allclose(signed, [0, 0.15, 0, -0.4, 0], atol=1e-15)
    assert chosen("rate-difference", reports, round_) == [3, 0]


def test_scalar_differences_take_the_networks_rate(report, in_round):
    rates = [(0.5, 0.1), (0.1, 0.3), (0.2, 0.2)]
    reports = [
        report(p, firing_rate_before=b, firing_rate_after=a, class_rates_after=[0.9])
        for p, (b, a) in enumerate(rates)
    ]
    round_ = in_round(reports)
    signed = scores("rate-difference-scalar-signed", reports, round_)
    np.testing.assert_allclose(signed, [-0.4, 0.2, 0])
    np.testing.assert_allclose(scores("rate-difference-scalar", reports, round_), [0.4, 0.2, 0])
    assert chosen("rate-difference-scalar", reports, round_) == [0, 1]
    assert chosen("rate-difference-scalar-signed", reports, round_) == [1, 2]


@pytest.mark.parametrize(
    ("rule", "settings", "expected"),
    [
        ("highest-rate", {}, [7, 3, 5]),
        ("lowest-rate", {}, [4, 2, 5]),
        ("target-rate", {"target_rate": 0.2}, [5, 3, 2]),
        # within 0.12 of the target all are equal: the lower partition, not the nearer rate
        ("target-rate", {"target_rate": 0.2, "rate_band": 0.12}, [2, 3, 5]),
        ("target-rate", {"target_rate": 1.0}, [7, 3, 5]),
    ],
)
def test_levels_order_by_the_rate_after_training(rule, settings, expected, report, in_round):
    rates = {2: 0.1, 3: 0.3, 4: 0.05, 5: 0.22, 7: 0.9}
    reports = [report(p, firing_rate_after=r, firing_rate_before=1 - r) for p, r in rates.items()]
    assert chosen(rule, reports, in_round(reports, count=3, **settings)) == expected


def test_the_band_measures_the_distance_to_its_edge(report, in_round):
    reports = [report(p, firing_rate_after=r) for p, r in enumerate([0.1, 0.25, 0.4])]
    round_ = in_round(reports, target_rate=0.2, rate_band=0.06)
    np.testing.assert_allclose(scores("target-rate", reports, round_), [-0.04, 0, -0.14])


def test_rate_proportional_samples_as_successive_draws_do(report, in_round):
    rates = np.array([0.01, 0.04, 0.02, 0.03])
    reports = [report(p, firing_rate_after=r) for p, r in enumerate(rates)]
    # probability of an unordered pair: both orders of drawing one after the other
    expected = {}
    for pair in combinations(range(4), 2):
        expected[pair] = sum(
            rates[a] / rates.sum() * rates[b] / (rates.sum() - rates[a])
            for a, b in permutations(pair)
        )
    runs = 4000
    counts = dict.fromkeys(expected, 0)
    for seed in range(runs):
        pair = chosen("rate-proportional", reports, in_round(reports, seed=seed))
        assert pair == chosen("rate-proportional", reports, in_round(reports, seed=seed))
        counts[tuple(sorted(pair))] += 1
    assert sum(expected.values()) == pytest.approx(1)
    chi_square = sum((counts[pair] - runs * p) ** 2 / (runs * p) for pair, p in expected.items())
    assert chi_square < 20.5  # 99.9 % quantile of five degrees of freedom


def test_silent_clients_are_drawn_last_and_uniformly(report, in_round):
    reports = [report(p, firing_rate_after=r) for p, r in enumerate([0.0, 1e-9, 0.0, 0.5])]
    firsts = set()
    for seed in range(50):
        drawn = chosen("rate-proportional", reports, in_round(reports, count=3, seed=seed))
        assert set(drawn[:2]) == {1, 3}
        firsts.add(drawn[2])
    assert firsts == {0, 2}


def test_random_selection_is_a_uniform_sample_that_replays(report, in_round):
    reports = [report(p) for p in (2, 3, 5, 8, 13)]
    others = [replace(r, num_examples=99, after=replace(r.after, classes=[1.0])) for r in reports]
    counts = dict.fromkeys((2, 3, 5, 8, 13), 0)
    for seed in range(2000):
        drawn = chosen("random", reports, in_round(reports, seed=seed))
        assert drawn == chosen("random", others, in_round(others, seed=seed))
        assert len(set(drawn)) == 2
        for partition in drawn:
            counts[partition] += 1
    spread = np.sqrt(2000 * 0.4 * 0.6)
    assert max(abs(count - 800) for count in counts.values()) < 4 * spread


def test_round_robin_takes_whoever_waits_longest_then_the_less_often_selected(report, in_round):
    reports = [report(p) for p in (0, 1, 2, 3, 4)]
    past = [(1, 2), (2, 3), (1, 3), (4, 3)]  # waits in round 5: 0: 5, 1: 2, 2: 3, 3: 1, 4: 1
    round_ = in_round(reports, count=5, past=past)
    assert chosen("round-robin", reports, round_) == [0, 2, 1, 4, 3]
    assert chosen("round-robin", reports, in_round(reports, count=5)) == [0, 1, 2, 3, 4]


def test_round_robin_takes_everyone_in_turn(report, in_round):
    reports = [report(p) for p in range(6)]
    past: list[list[int]] = []
    for _ in range(9):
        past.append(chosen("round-robin", reports, in_round(reports, past=past)))
    assert past == [[0, 1], [2, 3], [4, 5]] * 3


def test_power_of_choice_takes_the_highest_loss_before_training(report, in_round):
    reports = [
        report(p, loss_before=loss, train_loss=10 - loss) for p, loss in enumerate([2.0, 3.0, 1.0])
    ]
    assert chosen("loss", reports, in_round(reports)) == [1, 0]


def test_update_norm_takes_the_largest(report, in_round):
    reports = [report(p, update_norm=norm) for p, norm in enumerate([0.5, 2.0, 1.0])]
    assert chosen("update-norm", reports, in_round(reports)) == [1, 2]


def test_rate_diversity_is_greedy_and_within_twice_the_best_spread(report, in_round):
    profiles = np.random.default_rng(3).random((9, 3))
    reports = [report(p, layer_rates_after=list(rates)) for p, rates in enumerate(profiles)]
    picked = chosen("rate-diversity", reports, in_round(reports, count=4))
    distances = np.linalg.norm(profiles[:, None] - profiles[None], axis=2)
    assert picked[0] == np.linalg.norm(profiles - profiles.mean(0), axis=1).argmax()
    for step in range(1, 4):
        gaps = distances[:, picked[:step]].min(1)
        assert gaps[picked[step]] == gaps.max()

    def spread(some) -> float:
        return min(distances[a, b] for a, b in combinations(some, 2))

    best = max(spread(some) for some in combinations(range(9), 4))
    assert spread(picked) >= best / 2


def test_rate_diversity_scores_every_candidate_by_its_gap(report, in_round):
    profiles = [[0.0, 0.0], [1.0, 0.0], [0.0, 0.4], [0.1, 0.0]]
    reports = [report(p, layer_rates_after=rates) for p, rates in enumerate(profiles)]
    selection = SELECTION_RULES["rate-diversity"](reports, in_round(reports, count=3))
    assert isinstance(selection, Selection)
    assert selection.selected.tolist() == [1, 2, 3]
    gap = np.hypot(1.0, 0.4)
    np.testing.assert_allclose(selection.scores, [0.1, gap, gap, np.hypot(0.1, 0.4)])


def test_equal_profiles_fall_to_the_lower_partitions(report, in_round):
    reports = [report(p) for p in (3, 5, 9)]
    assert chosen("rate-diversity", reports, in_round(reports)) == [3, 5]
    assert chosen("rate-diversity", reports, in_round(reports, count=1)) == [3]


@pytest.mark.parametrize("rule", SELECTIONS)
def test_a_tie_falls_to_the_lower_partition_unless_drawn(rule, report, in_round):
    reports = [report(p, **read_by(rule)) for p in (3, 5, 9, 11)]
    picked = chosen(rule, reports, in_round(reports))
    if rule not in ("random", "rate-proportional"):
        assert picked == [3, 5]
    assert len(set(picked)) == 2


@pytest.mark.parametrize("rule", SELECTIONS)
def test_all_can_be_selected(rule, report, in_round):
    told = [read_by(rule) | {"firing_rate_after": p / 20} for p in (3, 5, 9)]
    reports = [report(p, **fields) for p, fields in zip((3, 5, 9), told, strict=True)]
    assert sorted(chosen(rule, reports, in_round(reports, count=3))) == [3, 5, 9]
