"""What is made of noisy scores whose noise is known, before the best are selected.

`shrunk` is empirical Bayes within a round: a score goes towards the mean of all, the further the
noisier it is (Efron & Morris 1975). `filtered` is a Kalman filter for each client: its standing
among the candidates, score less the round's mean, is a random walk that noise hides; it is seen in
the rounds in which the client is a candidate. How much clients differ and how fast they move is
estimated from the same scores. `upper` and `lower` are the filter's mean plus and minus its
deviation (Auer 2002). All of it is post-processing of reports and costs no privacy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnl.fidelity.moments import folded_mean
from fnl.wire.report import ClientReport
from server.context import RoundContext
from server.known_noise import KnownNoise

Floats = NDArray[np.float64]
Memory = Mapping[str, Floats]

_FIELDS = ("mean", "variance", "seen", "score", "noise", "moved", "waited", "spread")
"""Of each client: the filter's mean and variance; round, standing and noise of its last score;
sums over its scores of the squared change beyond noise, of rounds between, of signal."""


@dataclass(frozen=True)
class Estimate:
    """Scores as they are estimated.

    Attributes:
        scores: of the candidates, by which to select, [d].
        reliability: share of their variance that is not noise, in [0, 1].
        memory: what the next round starts from, [N] each.
    """

    scores: Floats
    reliability: float
    memory: Memory


def estimated(
    scores: Floats, reports: Sequence[ClientReport], context: RoundContext, *, rule: str
) -> Estimate:
    """Return the configured estimate of the candidates' scores by `rule`."""
    noise = np.array([NOISE_OF[rule](report, context.noise) for report in reports])
    if context.settings.estimate == "shrunk":
        return shrunk(scores, noise)
    partitions = np.array([report.partition for report in reports])
    found = filtered(scores, noise, partitions, context)
    width = {"filtered": 0.0, "upper": 1.0, "lower": -1.0}[context.settings.estimate]
    deviation = np.sqrt(found.memory["variance"][partitions])
    bound = found.scores + width * context.settings.confidence_width * deviation
    return Estimate(bound, found.reliability, found.memory)


def shrunk(scores: Floats, noise: Floats) -> Estimate:
    """Return scores drawn towards their mean, by variances of noise [d]."""
    signal = max(0.0, _spread(scores) - float(noise.mean()))
    if signal == 0:
        reliability = 0.0 if noise.any() else 1.0
        return Estimate(
            scores if reliability else np.full_like(scores, scores.mean()), reliability, {}
        )
    precision = 1 / (signal + noise)
    mean = float((precision * scores).sum() / precision.sum())
    return Estimate(
        mean + signal * precision * (scores - mean), signal / (signal + float(noise.mean())), {}
    )


def filtered(
    scores: Floats, noise: Floats, partitions: NDArray[np.int64], context: RoundContext
) -> Estimate:
    """Return each client's filtered standing among the candidates, and the filters' new state."""
    clients, now = len(context.history.times_selected), context.server_round
    memory = {name: context.history.memory.get(name, np.zeros(clients)).copy() for name in _FIELDS}
    standing = scores - scores.mean()
    last = {name: values[partitions] for name, values in memory.items()}
    known = last["seen"] > 0
    gap = np.where(known, now - last["seen"], 0.0)
    change = (standing - last["score"]) ** 2 - noise - last["noise"]
    memory["moved"][partitions] += np.where(known, change, 0.0)
    memory["waited"][partitions] += gap
    memory["spread"][partitions] += standing**2 * len(scores) / max(1, len(scores) - 1) - noise
    looks = int(context.history.times_answered.sum()) + len(scores)
    signal = max(0.0, float(memory["spread"].sum()) / looks)
    waited = float(memory["waited"].sum())
    drift = max(0.0, float(memory["moved"].sum()) / waited) if waited else 0.0
    # nobody is known less well than a client that was never seen
    prior = np.where(known, np.minimum(last["variance"] + drift * gap, signal), signal)
    heard = np.divide(prior, prior + noise, out=np.ones_like(prior), where=prior + noise > 0)
    mean = last["mean"] + heard * (standing - last["mean"])
    # without noise and signal the standing is what it is
    variance = (1 - heard) * prior
    new = {"mean": mean, "variance": variance, "seen": now, "score": standing, "noise": noise}
    for name, values in new.items():
        memory[name][partitions] = values
    left = float(variance.mean()) / signal if signal else float(noise.any())
    return Estimate(mean, 1 - left, memory)


def _spread(scores: Floats) -> float:
    return float(scores.var(ddof=1)) if len(scores) > 1 else 0.0


def _after(report: ClientReport, noise: KnownNoise) -> float:
    return noise.variance_of_rate(report)


def _before(report: ClientReport, noise: KnownNoise) -> float:
    return noise.in_release(report) ** 2


def _change(report: ClientReport, noise: KnownNoise) -> float:
    return noise.in_rate(report) ** 2 + 2 * noise.in_release(report) ** 2


def _signed(report: ClientReport, noise: KnownNoise) -> float:
    """Return the variance of a sum over classes: training moves all of them together."""
    classes = int(np.isfinite(_changes(report)).sum())
    training, released = noise.in_class(report, len(report.after.classes))
    return (classes * training) ** 2 + classes * released**2


def _folded(report: ClientReport, noise: KnownNoise) -> float:
    """Return the variance of a sum of absolute changes, around what each seems to be."""
    change = _changes(report)
    change = change[np.isfinite(change)]
    training, released = noise.in_class(report, len(report.after.classes))
    square = training**2 + released**2
    if square == 0:
        return 0.0
    together = 1 + (len(change) - 1) * training**2 / square
    return float(_absolute(change, square).sum() * together)


def _scalar(report: ClientReport, noise: KnownNoise) -> float:
    change = np.array([report.firing_rate_after - report.firing_rate_before])
    return float(_absolute(change, _change(report, noise)).sum())


def _absolute(change: Floats, square: float) -> Floats:
    """Return the variance of |X| around what each change seems to be without its noise."""
    true = np.sqrt(np.maximum(change**2 - square, 0.0))
    return true**2 + square - folded_mean(true, np.full_like(true, np.sqrt(square))) ** 2


def _changes(report: ClientReport) -> Floats:
    return np.array(report.after.classes) - np.array(report.before.classes)


def _weights(report: ClientReport, noise: KnownNoise) -> float:
    return noise.in_weights(report) ** 2


NOISE_OF: dict[str, Callable[[ClientReport, KnownNoise], float]] = {
    "rate-difference": _folded,
    "rate-difference-debiased": _folded,
    "rate-difference-signed": _signed,
    "rate-difference-scalar": _scalar,
    "rate-difference-scalar-signed": _change,
    "highest-rate": _after,
    "lowest-rate": _after,
    "highest-rate-global": _before,
    "update-norm": _weights,
}
"""Variance of a candidate's score by the rules that `coordination.estimate` works on."""
