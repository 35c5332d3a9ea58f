"""Estimates of noisy scores: better than the scores, and nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fnl.config import CoordinationGroup, parse_config
from fnl.errors import ConfigError, RunError
from fnl.randomness import Purpose, stream
from server.context import History, RoundContext
from server.coordination import Coordinator
from server.selection import Selection, select, within_share
from server.selection.estimate import filtered, shrunk

CLIENTS, CANDIDATES, ROUNDS = 20, 12, 60


def context(history: History, number: int, **settings: object) -> RoundContext:
    return RoundContext(
        server_round=number,
        candidates=(),
        count=4,
        stream=stream(0, Purpose.SELECTION, number),
        history=history,
        settings=CoordinationGroup(**settings),  # type: ignore[arg-type]
    )


def followed(noise: float, drift: float = 0.0, signal: float = 1.0) -> dict[str, float]:
    """Return the mean τ with the true standing of raw scores and of filtered ones, late on."""
    draw, history = np.random.default_rng(5), History.empty(CLIENTS)
    truth = signal * draw.normal(size=CLIENTS)
    taus: dict[str, list[float]] = {"raw": [], "filtered": [], "reliability": []}
    for number in range(1, ROUNDS + 1):
        truth = truth + drift * draw.normal(size=CLIENTS)
        asked = np.sort(draw.choice(CLIENTS, CANDIDATES, replace=False))
        raw = truth[asked] + noise * draw.normal(size=CANDIDATES) + 10 * draw.normal()
        known = np.full(CANDIDATES, noise**2)
        found = filtered(raw, known, asked, context(history, number))
        history = history.after(number, asked[:4], answered=asked, memory=found.memory)
        if number > ROUNDS // 2:
            if signal:
                taus["raw"].append(stats.kendalltau(raw, truth[asked]).statistic)
                taus["filtered"].append(stats.kendalltau(found.scores, truth[asked]).statistic)
            taus["reliability"].append(found.reliability)
    return {name: float(np.nanmean(values)) for name, values in taus.items() if values}


def test_a_filter_ranks_clients_better_than_their_last_scores():
    still, moving = followed(noise=2.0), followed(noise=2.0, drift=0.1)
    assert still["filtered"] > still["raw"] + 0.3
    assert moving["filtered"] > moving["raw"] + 0.1
    assert still["reliability"] > moving["reliability"]


def test_without_noise_a_filter_gives_the_scores_and_without_signal_none():
    assert followed(noise=0.0)["filtered"] == pytest.approx(1.0)
    assert followed(noise=2.0, signal=0.0)["reliability"] < 0.5
    draw = np.random.default_rng(0)
    scores = draw.normal(size=CANDIDATES)
    found = filtered(scores, np.zeros(12), np.arange(12), context(History.empty(CLIENTS), 1))
    np.testing.assert_allclose(found.scores, scores - scores.mean())
    assert found.reliability == 1


def test_the_filter_is_the_textbooks():
    """Two looks at clients that stand still: S²/(S² + v/2) of the mean, S² the estimate now."""
    draw, history = np.random.default_rng(3), History.empty(CLIENTS)
    everybody, noise = np.arange(CLIENTS), np.full(CLIENTS, 0.25)
    truth = 2 * draw.normal(size=CLIENTS)
    looks = []
    for number in (1, 2):
        raw = truth + 0.5 * draw.normal(size=CLIENTS)
        looks.append(raw - raw.mean())
        found = filtered(raw, noise, everybody, context(history, number))
        history = history.after(number, [0], answered=everybody, memory=found.memory)
    moved = float(((looks[1] - looks[0]) ** 2 - 0.5).sum())
    drift = max(0.0, moved / CLIENTS)
    spreads = [float((look**2).sum() / (CLIENTS - 1) - 0.25) for look in looks]
    prior = spreads[0] * 0.25 / (spreads[0] + 0.25) + drift
    first = spreads[0] / (spreads[0] + 0.25) * looks[0]
    expected = first + prior / (prior + 0.25) * (looks[1] - first)
    np.testing.assert_allclose(found.scores, expected)


def test_shrunk_scores_are_nearer_the_truth_and_the_noisier_is_drawn_further():
    draw = np.random.default_rng(1)
    noise = np.where(np.arange(400) % 2, 0.1, 4.0)
    truth = draw.normal(size=400)
    raw = truth + np.sqrt(noise) * draw.normal(size=400)
    found = shrunk(raw, noise)
    assert ((found.scores - truth) ** 2).mean() < 0.4 * ((raw - truth) ** 2).mean()
    signal = raw.var(ddof=1) - noise.mean()
    assert found.reliability == pytest.approx(signal / (signal + noise.mean()))
    slope = np.polyfit(raw[::2], found.scores[::2], 1)[0]
    assert slope == pytest.approx(signal / (signal + 4.0))
    # nothing but noise: no score is better than another
    assert shrunk(np.array([1.0, 2.0, 3.0]), np.full(3, 9.0)).reliability == 0
    assert shrunk(np.array([1.0, 2.0, 3.0]), np.zeros(3)).scores.tolist() == [1, 2, 3]


@pytest.fixture
def decide(report):
    """Return what a configuration decides over released rates, whose noise has deviation 0.05."""

    def make(spread: float, history: History | None = None, **keys: object):
        config = parse_config(
            {"coordination.selection": "highest-rate", "coordination.aggregation": "fedavg"}
            | {f"coordination.{key.replace('_', '-')}": value for key, value in keys.items()}
        )
        draw = np.random.default_rng(2)
        rates = np.clip(0.3 + spread * np.arange(12) / 12 + 0.001 * draw.normal(size=12), 0, 1)
        reports = [
            report(p, firing_rate_after=float(rate), rate_noise=0.05)
            for p, rate in enumerate(rates)
        ]
        coordinator = Coordinator(config)
        return coordinator.decide(1, reports, history or History.empty(CLIENTS), {})

    return make


def test_where_noise_hides_the_scores_the_selection_is_random_and_says_so(decide):
    hidden, clear = decide(0.01, estimate="shrunk"), decide(0.6, estimate="shrunk")
    assert (hidden.at_random, hidden.reliability) == (True, 0.0)
    assert not clear.at_random
    assert clear.reliability > 0.9
    assert sorted(clear.selected.tolist()) == [4, 5, 6, 7, 8, 9, 10, 11]
    assert sorted(hidden.selected.tolist()) != [4, 5, 6, 7, 8, 9, 10, 11]
    assert decide(0.6, estimate="shrunk", min_reliability=0.99).at_random
    plain = decide(0.01)
    assert (plain.at_random, plain.reliability, plain.memory) == (False, None, None)


def test_bounds_are_the_filters_deviation_away(decide):
    by = {kind: decide(0.6, estimate=kind, confidence_width=2.0) for kind in
          ("filtered", "upper", "lower")}  # fmt: skip
    up = by["upper"].scores - by["filtered"].scores
    np.testing.assert_allclose(up, by["filtered"].scores - by["lower"].scores)
    variance = by["filtered"].memory["variance"][:12]
    np.testing.assert_allclose(up, 2 * np.sqrt(variance))
    assert variance.min() > 0


def test_who_is_selected_too_often_stands_behind_the_others(report, in_round):
    reports = [report(p) for p in range(6)]
    best_first = Selection(np.array([9.0, 8, 7, 3, 2, 1]), np.array([0, 1, 2]))
    round_ = in_round(reports, count=3, max_share=0.5)
    history = History.empty(20)
    chosen: list[list[int]] = []
    for number in range(1, 9):
        now = replace(round_, server_round=number, history=history)
        picked = within_share(best_first, reports, now).selected.tolist()
        chosen.append(picked)
        history = history.after(number, picked, answered=range(6))
    assert chosen[:2] == [[0, 1, 2], [3, 4, 5]]
    assert history.times_selected[:6].tolist() == [4] * 6
    # too few others: somebody who had enough is taken all the same
    few = replace(round_, count=5, history=History.empty(20).after(1, range(6), answered=range(6)))
    assert within_share(best_first, reports, few).selected.tolist() == [0, 1, 2, 3, 4]
    free = replace(round_, settings=round_.settings.model_copy(update={"max_share": 1.0}))
    assert within_share(best_first, reports, free) is best_first


def test_what_a_rule_remembers_comes_back_to_it_and_through_a_checkpoint(report, in_round):
    reports = [report(p) for p in range(3)]

    def counting(reports, context):
        count = context.history.memory.get("count", np.zeros(20)) + 1
        return Selection(count[[r.partition for r in reports]], np.array([0, 1]), {"count": count})

    history = History.empty(20)
    for number in (1, 2):
        now = replace(in_round(reports), history=history)
        found = select(reports, counting, now, name="mine")
        history = history.after(number, [0, 1], answered=[0, 1, 2], memory=found.memory)
    assert found.scores.tolist() == [2, 2, 2]
    again = History.from_state(history.state(), 20)
    np.testing.assert_array_equal(again.memory["count"], np.full(20, 2.0))
    assert again.times_answered[:4].tolist() == [2, 2, 2, 0]
    for damaged in (np.zeros(3), np.full(20, np.nan), np.zeros(20, np.int64)):
        with pytest.raises(RunError, match="memory"):
            History.from_state(history.state() | {"memory/count": damaged}, 20)

    def forgetful(reports, context):
        return Selection(np.zeros(3), np.array([0, 1]), {"count": np.zeros(2)})

    with pytest.raises(RunError, match="remembers 'count' of shape"):
        select(reports, forgetful, in_round(reports), name="mine")


def test_what_has_no_known_noise_is_refused():
    with pytest.raises(ConfigError, match=r"does not know how noisy the scores of .*'loss'"):
        parse_config({"coordination.selection": "loss", "coordination.estimate": "filtered"})
    with pytest.raises(ConfigError, match=r"min-reliability = 0.5 needs an estimate"):
        parse_config({"coordination.min-reliability": 0.5})


def test_shrunk_rates_weigh_between_clips_and_rates(report, in_round):
    from server.aggregation.rules import rate_shrunk

    def shares(noise: float) -> np.ndarray:
        reports = [
            report(p, num_examples=10, firing_rate_after=r, rate_noise=noise or None)
            for p, r in enumerate((0.1, 0.2, 0.3))
        ]
        weights = rate_shrunk(reports, in_round(reports))
        return weights / weights.sum()

    np.testing.assert_allclose(shares(0.0), [1 / 6, 1 / 3, 1 / 2])
    np.testing.assert_allclose(shares(1.0), [1 / 3] * 3)
    assert 1 / 6 < shares(0.06)[0] < 1 / 3


def test_global_rates_ignore_what_a_client_trained(report, in_round):
    from server.selection import SELECTION_RULES

    reports = [
        report(p, firing_rate_before=r, firing_rate_after=1 - r)
        for p, r in enumerate((0.1, 0.4, 0.2))
    ]
    round_ = in_round(reports)
    highest = SELECTION_RULES["highest-rate-global"](reports, round_)
    np.testing.assert_allclose(highest, [0.1, 0.4, 0.2])
    first = SELECTION_RULES["rate-change-global"](reports[:2], round_)
    history = History.empty(20).after(1, [0], answered=[0, 1], memory=first.memory)
    moved = [replace(r, before=replace(r.before, firing_rate=r.firing_rate_before + 0.05 * k))
             for k, r in enumerate(reports, start=1)]  # fmt: skip
    again = SELECTION_RULES["rate-change-global"](moved, replace(round_, history=history))
    np.testing.assert_allclose(again.scores, [0.05, 0.1, 0.1])  # the third was never asked
