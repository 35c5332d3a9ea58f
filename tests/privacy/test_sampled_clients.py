"""Candidates drawn in secret: their law, what they are charged, and what is refused beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from opacus.accountants import RDPAccountant
from scipy import stats

import fnl
from fnl.config import Config, parse_config
from fnl.errors import ConfigError
from fnl.privacy.client_level import (
    client_delta,
    epsilon_client,
    epsilon_of_whoever_was_asked,
    planned_noise,
    private_aggregate,
)
from fnl.privacy.ledger import RDP_ORDERS
from fnl.privacy.sampled_clients import drawn_candidates, expected_shares
from fnl.runtime.releases import Releases, What
from fnl.schedule import asked_in, planned_of
from server.client_privacy import ClientPrivacy
from server.counted import known_beforehand
from server.replies.vetting import Answer
from server.rounds import Rounds
from tests.privacy.test_likelihood_ratios import DRAWS, EPSILONS, SLACK, claimed, measured

FLAT = {
    "privacy.mode": "client", "coordination.selection": "random", "run.rounds": 30,
    "coordination.aggregation": "fedavg", "coordination.schedule": "poisson",
    "coordination.candidates": 4, "coordination.selected": 4,
}  # fmt: skip


def configured(**keys: object) -> Config:
    return parse_config({**FLAT, **keys})


def few(clients: int, asked: int, **keys: object) -> Config:
    asking = {"coordination.candidates": asked, "coordination.selected": asked}
    return configured(**{"data.clients": clients, **asking, **keys})


@pytest.mark.parametrize("secure", [False, True])
def test_every_client_is_drawn_by_itself_with_the_probability_that_is_booked(secure):
    config, rounds, rate = configured(**{"privacy.secure-noise": secure}), 3000, 4 / 20
    drawn = np.zeros((rounds, 20))
    for server_round in range(rounds):
        candidates = drawn_candidates(config, server_round)
        assert (np.diff(candidates) > 0).all()
        drawn[server_round, candidates] = 1
    surprising = 1e-8
    # whoever it is, and in any order of rounds
    for of_one in (drawn.sum(), *drawn.sum(axis=0)):
        throws = drawn.size if of_one == drawn.sum() else rounds
        assert stats.binomtest(int(of_one), throws, rate).pvalue > surprising
    # how many there are says that coins are independent: a fixed number has no variance at all
    expected = stats.binom.pmf(np.arange(21), 20, rate) * rounds
    common = expected > 5
    counts = np.bincount(drawn.sum(axis=1).astype(int), minlength=21)
    observed = np.append(counts[common], counts[~common].sum())
    assert stats.chisquare(
        observed, np.append(expected[common], expected[~common].sum())
    ).pvalue > (surprising)
    for one, other in ((drawn[1:], drawn[:-1]), (drawn[:, 1:], drawn[:, :-1])):
        both = int((one * other).sum())
        assert stats.binomtest(both, one.size, rate**2).pvalue > surprising


def test_seeded_draws_come_again_and_those_of_the_operating_system_do_not():
    seeded, secure = configured(), configured(**{"privacy.secure-noise": True})
    assert drawn_candidates(seeded, 5).tolist() == [0, 1, 2, 10]  # pinned
    other = configured(**{"run.seed": 1})
    draws = [[tuple(drawn_candidates(c, r)) for r in range(20)] for c in (seeded, other, secure)]
    again = [[tuple(drawn_candidates(c, r)) for r in range(20)] for c in (seeded, other, secure)]
    assert draws[:2] == again[:2]
    assert draws[0] != draws[1]
    assert draws[2] != again[2]


def test_of_a_known_schedule_they_are_the_scheduled_ones():
    config = configured(**{"coordination.schedule": "balanced"})
    for server_round in (1, 2, 9):
        assert (drawn_candidates(config, server_round) == asked_in(config, server_round)).all()


def test_shares_are_of_everyone_and_the_sum_is_one_on_average():
    config, clips = few(4, 1), [10, 30, 20, 40]
    shares = expected_shares(config, clips)
    np.testing.assert_allclose(shares, np.array(clips) / (0.25 * 100))
    assert (shares * 1 / 4).sum() == pytest.approx(1)
    np.testing.assert_allclose(expected_shares(config, None), np.ones(4))  # 1/d


@pytest.mark.parametrize(("clients", "asked", "rounds"), [(20, 4, 30), (200, 20, 100)])
def test_a_run_is_charged_as_opacus_and_google_charge_it(clients, asked, rounds):
    keys = {"run.rounds": rounds, "privacy.client-delta": 1e-3, "data.speakers": 20 * clients}
    prv = few(clients, asked, **keys)
    rdp = few(clients, asked, **keys, **{"privacy.accountant": "rdp"})
    z, rate = planned_noise(prv), asked / clients
    for done in (rounds // 2, rounds):
        released = [(number, z) for number in range(1, done + 1)]
        opacus = RDPAccountant()
        opacus.history = [(z, rate, done)]
        expected, _ = opacus.get_privacy_spent(delta=1e-3, alphas=RDP_ORDERS)
        assert epsilon_client(rdp, released) == pytest.approx(expected, rel=1e-9)
        google = PLDAccountant(value_discretization_interval=1e-3)
        step = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(z))
        google.compose(step, done)
        found = epsilon_client(prv, released)
        assert found == pytest.approx(google.get_epsilon(1e-3), abs=5e-3)
        assert found <= expected  # and no looser than Rényi's
    assert 0.98 * 8 < found <= 8
    alone = PLDAccountant(value_discretization_interval=1e-3)
    alone.compose(dp_event.GaussianDpEvent(z), rounds)
    told = epsilon_of_whoever_was_asked(prv)
    assert told == pytest.approx(alone.get_epsilon(1e-3), rel=1e-3)
    assert told > found


def test_all_of_a_federation_are_charged_as_without_sampling():
    everyone = few(20, 20)
    without = parse_config({**everyone.flat(), "coordination.schedule": "balanced"})
    assert planned_noise(everyone) == planned_noise(without)


@pytest.mark.parametrize(("clients", "asked", "least"), [(20, 4, 1.9), (200, 20, 2.2)])
def test_it_takes_half_of_the_noise_or_less(clients, asked, least):
    sampled = few(clients, asked)
    drawn = parse_config({**sampled.flat(), "coordination.schedule": "random"})
    assert planned_noise(drawn) / planned_noise(sampled) > least


def released(config: Config, sigma: float, moves: float) -> np.ndarray:
    """Return rounds as client 0 moves them: its update is `moves`, bounded by 2; in units of S·w.

    Others move the model elsewhere. The worst neighbour is one that gives nothing.
    """
    shares, before = expected_shares(config, None), {"w": np.zeros(2, np.float32)}
    models = [{"w": np.array([moves, 0], np.float32)}, *3 * [{"w": np.array([0, 9], np.float32)}]]
    generator, found = np.random.default_rng(config.run.seed), []
    for number in range(1, DRAWS + 1):
        asked = drawn_candidates(config, number)
        after = private_aggregate(
            before, [models[k] for k in asked], shares[asked],
            largest_share=float(shares.max()), clip_norm=2.0, noise_multiplier=sigma,
            generator=generator,
        )  # fmt: skip
        found.append(after["w"][0])
    return np.array(found) / 2.0  # 1/d = 1


def drawn_and_absent(sigma: float, rate: float) -> tuple[np.ndarray, np.ndarray]:
    there, gone = few(4, round(4 * rate), **{"run.seed": 1}), few(4, 1, **{"run.seed": 2})
    return released(there, sigma, 100.0) * there.coordination.candidates, released(gone, sigma, 0.0)


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_no_round_tells_a_client_better_than_google_s_curve_of_a_sampled_gaussian(sigma):
    present, absent = drawn_and_absent(sigma, 0.25)
    for epsilon in EPSILONS:
        curve, found = claimed(sigma, 0.25, epsilon, 0.01), measured(present, absent, epsilon)
        slack = SLACK * (1 + np.exp(epsilon))
        assert curve - slack <= found <= curve + slack


def test_clients_that_are_drawn_twice_as_often_as_booked_are_seen():
    present, absent = drawn_and_absent(0.3, 0.5)
    assert measured(present, absent, 0.0) > claimed(0.3, 0.25, 0.0, 0.01) + 2 * SLACK


def play(config: Config, path: Path, rounds: int, clips: list[int] | None) -> list[tuple]:
    """Return, of rounds that a server plays, who was asked and how far the model moved: [P]."""
    privacy = ClientPrivacy(config, Releases(path)) if config.is_client_private else None
    server = Rounds(config, {}, None, client_privacy=privacy, clips=clips)  # type: ignore[arg-type]
    before, played = {"w": np.zeros(400, np.float32)}, []
    for number in range(1, rounds + 1):
        asked = drawn_candidates(config, number).tolist()
        gave = [k for k in asked if k != 2]  # whose answers are always lost
        answers = [
            Answer(known_beforehand(k, 1), {"arrays": {"w": before["w"] + 3.0 * (k + 1)}}, 0)
            for k in gave
        ]
        played.append((gave, server.play(number, answers, asked=asked, before=before).after["w"]))
    return played


@pytest.mark.parametrize("clips", [None, [10, 30, 20, 40]])
@pytest.mark.parametrize("mode", ["client", "none"])
def test_the_model_moves_by_the_sum_of_those_who_came_in_shares_of_all(tmp_path, clips, mode):
    quiet = {"privacy.client-noise-multiplier": 1e-9, "privacy.client-clip-norm": 1e6}
    config = few(4, 1, **{"privacy.mode": mode, **quiet})
    shares = expected_shares(config, clips)
    sizes = set()
    for gave, moved in play(config, tmp_path, 40, clips):
        expected = sum(shares[k] * 3.0 * (k + 1) for k in gave)
        np.testing.assert_allclose(moved, expected, atol=1e-2 * (mode == "client") + 1e-5)
        sizes.add(len(gave))
    assert {0, 1, 2} <= sizes


def test_noise_is_the_same_whoever_comes_and_if_nobody_does(tmp_path):
    config = few(4, 1, **{"privacy.client-noise-multiplier": 1.5, "privacy.client-clip-norm": 2.0})
    clips = [10, 30, 20, 40]
    std = 1.5 * 2.0 * 40 / (0.25 * 100)  # of the largest client, drawn or not
    low, high = stats.chi2.ppf([1e-6, 1 - 1e-6], 400) / 400
    seen = set()
    for gave, moved in play(config, tmp_path, 40, clips):
        centred = moved - moved.mean() if gave else moved
        assert low * std**2 < (centred**2).mean() < high * std**2
        seen.add(len(gave))
    assert 0 in seen


@pytest.mark.parametrize("checkpoint", [0, 4])
def test_rounds_done_again_are_charged_as_further_draws(tmp_path, checkpoint):
    config = configured(
        **{"privacy.secure-noise": True, "privacy.accountant": "rdp", "run.rounds": 12}
    )

    def carry(done: int, until: int) -> float:
        privacy, model = ClientPrivacy(config, Releases(tmp_path), done), {"w": np.zeros(3)}
        spent = 0.0
        for number in range(done + 1, until + 1):
            after = privacy.privatise(number, model, [], np.zeros(0), largest_share=0.25)
            spent = privacy.book(number, after)
        return spent

    carry(0, 7)
    spent = carry(checkpoint, 12)
    releases = list(Releases(tmp_path).of(What.MODEL))
    assert len(releases) == 7 + 12 - checkpoint
    opacus = RDPAccountant()
    for release in releases:
        opacus.step(noise_multiplier=release.noise_multiplier, sample_rate=0.2)
    expected, _ = opacus.get_privacy_spent(delta=client_delta(config), alphas=RDP_ORDERS)
    assert spent == pytest.approx(expected, rel=1e-6)
    assert 7.8 < spent <= 8
    assert releases[-1].noise_multiplier > planned_noise(config)


def test_the_same_round_under_the_same_noise_is_charged_as_often_as_it_left():
    config = configured(**{"privacy.client-noise-multiplier": 1.0})
    twice = epsilon_client(config, [(1, 1.0), (2, 1.0), (2, 1.0)])
    assert twice == epsilon_client(config, [(1, 1.0), (2, 1.0), (3, 1.0)])
    assert twice > epsilon_client(config, [(1, 1.0), (2, 1.0)])


REFUSED: list[tuple[Mapping[str, object], str]] = [
    ({"privacy.mode": "record"}, "nobody knows then: use privacy.mode = 'client'"),
    ({"privacy.mode": "both"}, "nobody knows then: use privacy.mode = 'client'"),
    ({"coordination.selected": 3}, "make them equal"),
    ({"coordination.selection": "round-robin"}, "nobody to leave out"),
    ({"coordination.selection": "tests.audit.concealing_rules:losses"}, "nobody to leave out"),
    ({"coordination.aggregation": "median"}, "by what they sent: use 'fedavg'"),
    ({"coordination.aggregation": "own:rule"}, "whose weights are fixed here"),
    ({"coordination.algorithm": "own:Rule"}, "may tell by the global model"),
    ({"coordination.max-share": 0.5}, "set it to 1"),
    ({"coordination.probe": True}, "set it to false"),
    ({"coordination.minimum": 1}, "no longer be of independent draws"),
    ({"privacy.client-bands": 2}, "set coordination.schedule = 'balanced'"),
    ({"privacy.mode": "record", "privacy.noise": "distributed"}, "privacy.noise = 'distributed'"),
]


@pytest.mark.parametrize(("keys", "message"), REFUSED)
def test_what_would_tell_the_candidates_or_needs_to_know_them_is_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        configured(**keys)


def test_nothing_reads_a_schedule_that_there_is_not():
    config = configured()
    for read in (asked_in, planned_of):
        with pytest.raises(ConfigError, match="keeps secret who is asked when"):
            read(config, 1)
    with pytest.raises(ConfigError, match="keeps secret who is asked when"):
        fnl.plan(config)
