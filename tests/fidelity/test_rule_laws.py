"""The law of each rule against the rule itself, on drawn rates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fnl.config import CoordinationGroup
from fnl.config.rules import NOISE_KNOWN, SELECTIONS
from fnl.fidelity.rules import LAWS, UNRANKED, Fidelity, NoisyRates, Target
from fnl.metrics import ranking
from fnl.randomness import Purpose, stream
from fnl.wire.report import ClientReport, Rates
from server.context import History, RoundContext
from server.selection import SELECTION_RULES, select

ROUNDS, CANDIDATES, CLASSES, PARAMETERS = 150, 20, 4, 400


def made_up(release: float) -> tuple[NoisyRates, np.ndarray]:
    """Return clean rounds, and ∇r_c of each class [R, d, C, P]: a rate is 0.2 + ∇r·w."""
    draw = np.random.default_rng(0)
    shape = (ROUNDS, CANDIDATES)
    before = 0.2 + 0.02 * draw.normal(size=(*shape, CLASSES))
    after = before + 0.02 * draw.normal(size=(*shape, CLASSES)) + 0.01
    gradients = draw.normal(size=(*shape, CLASSES, PARAMETERS)) / np.sqrt(PARAMETERS)
    gradients += 0.7 * draw.normal(size=(*shape, 1, PARAMETERS)) / np.sqrt(PARAMETERS)
    noise = 0.02 * (0.5 + draw.random(shape))
    norm = 0.5 + 0.1 * draw.random(shape)
    clipped = before + 0.8 * (after - before) + 0.003 * draw.normal(size=after.shape)
    rates = NoisyRates(
        clipped_after=clipped.mean(-1),
        clipped_classes=clipped,
        clipped_norm=0.9 * norm + 0.01 * draw.random(shape),
        before=before.mean(-1),
        after=after.mean(-1),
        classes_before=before,
        classes_after=after,
        update_norm=norm,
        weight_noise=noise,
        class_gram=np.einsum("rdcp,rdep->rdce", gradients, gradients),
        rate_gradient=np.linalg.norm(gradients.mean(2), axis=-1),
        release=np.full(shape, release),
        release_network=np.full(shape, release),
        parameters=PARAMETERS,
        shift=0.0,
        class_shift=np.zeros(CLASSES),
    )
    return rates, gradients


def reported(rates: NoisyRates, gradients: np.ndarray, *, noisy: bool) -> list[list[ClientReport]]:
    draw = np.random.default_rng(1)
    rounds: list[list[ClientReport]] = []
    for r in range(ROUNDS):
        reports = []
        for k in range(CANDIDATES):
            weights = rates.weight_noise[r, k] * draw.normal(size=PARAMETERS) * noisy
            moved = gradients[r, k] @ weights
            sd = rates.release[r, k] * noisy
            b, a = draw.normal(0, sd, (2, CLASSES)) if sd else np.zeros((2, CLASSES))
            bn, an = draw.normal(0, sd, 2) if sd else (0.0, 0.0)
            start = np.zeros(PARAMETERS)
            start[0] = (rates.clipped_norm if noisy else rates.update_norm)[r, k]
            after = (rates.clipped_after if noisy else rates.after)[r, k]
            by_class = (rates.clipped_classes if noisy else rates.classes_after)[r, k]
            reports.append(
                ClientReport(
                    partition=k, num_examples=50, steps=1, sample_rate=1.0, seconds=0.0,
                    before=Rates(float(rates.before[r, k] + bn), [0.1],
                                 (rates.classes_before[r, k] + b).tolist()),
                    after=Rates(float(after + an + moved.mean()), [0.1],
                                (by_class + a + moved).tolist()),
                    update_norm=float(np.linalg.norm(start + weights)),
                )
            )  # fmt: skip
        rounds.append(reports)
    return rounds


def context(reports: list[ClientReport], number: int) -> RoundContext:
    return RoundContext(
        server_round=number,
        candidates=tuple(reports),
        count=5,
        stream=stream(0, Purpose.SELECTION, number),
        history=History.empty(CANDIDATES),
        settings=CoordinationGroup(target_rate=0.21, rate_band=0.005),
    )


@pytest.fixture(scope="module", params=[0.0, 0.02], ids=["in-the-clear", "released"])
def rounds(request):
    rates, gradients = made_up(request.param)
    return rates, [reported(rates, gradients, noisy=noisy) for noisy in (False, True)]


@pytest.mark.parametrize("rule", sorted(LAWS))
def test_the_law_gives_tau_and_flips_of_the_rule_on_drawn_rates(rule, rounds):
    rates, (clean, noisy) = rounds
    taus, flips = [], []
    for number, pair in enumerate(zip(clean, noisy, strict=True), start=1):
        one, other = (
            select(r, SELECTION_RULES[rule], context(r, number), name=rule).scores for r in pair
        )
        taus.append(stats.kendalltau(one, other).statistic)
        flips.append(ranking.flip_rate(one, other, 5))
    moments = LAWS[rule](rates, Target(0.21, 0.005))
    law = Fidelity.of(2 / np.pi * np.arcsin(moments.correlation()), CANDIDATES, 5)
    # a draw of the rule's own, or a score bounded above with ties, is far from normal
    loose = {"rate-proportional": (0.06, 0.06), "target-rate": (0.05, 0.12)}
    tau, flipped = loose.get(rule, (0.05, 0.06))
    assert law.tau == pytest.approx(np.nanmean(taus), abs=tau)
    if rule != "rate-proportional":  # given its candidates no score needs to be normal
        assert moments.tau() == pytest.approx(np.nanmean(taus), abs=0.06)
    assert law.flips == pytest.approx(np.mean(flips), abs=flipped)


def test_every_rule_whose_noise_the_server_can_tell_has_a_law():
    """Of a rule without one a pilot tells alone."""
    assert {*NOISE_KNOWN, "target-rate", "rate-proportional"} <= set(LAWS)
    assert {*LAWS, *UNRANKED} < set(SELECTIONS)


def test_scaling_the_noise_scales_the_variance_and_steps_scale_the_signal():
    rates, _ = made_up(0.01)
    one = LAWS["rate-difference-scalar-signed"](rates, Target())
    more = LAWS["rate-difference-scalar-signed"](
        rates.scaled(noise=3, release=3, progress=2), Target()
    )
    np.testing.assert_allclose(more.variance, 9 * one.variance)
    np.testing.assert_allclose(more.clean, 2 * one.clean)
    assert more.correlation() < one.correlation()
    assert more.tau() < one.tau()
