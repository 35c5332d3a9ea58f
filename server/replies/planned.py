"""A report against what the run's configuration says that its client has done.

Steps, sampling rate, δ and bounds of a round follow from the configuration and the number of
clips, in a simulation its noise and ε too: nobody's ledger holds anything but this run. A client
that reports others has not done what it was asked, or does not say what it did.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fnl.config import Config
from fnl.data.federated import hops_of_clients
from fnl.errors import BudgetError
from fnl.privacy.budget import Budget, Workload, delta_of
from fnl.privacy.ledger import Ledger
from fnl.privacy.limits import MOST_NOISE
from fnl.privacy.prv import EPS_ERROR
from fnl.training.plan import plan_of
from fnl.training.spending import noise_of, workload_of
from fnl.wire.report import ClientReport
from server.replies.rejections import FaultKind, RejectedError

_ROUNDING = 1e-9
"""Relative difference of numbers that are the same."""
_CALIBRATED = 1.05
"""More than calibration leaves between a noise and one that is planned a little otherwise."""


def check_plan(
    report: ClientReport, config: Config, clips: Sequence[int] | None, booked: int = 0
) -> None:
    """Refuse a report of other work than was asked for.

    Args:
        report: its entries are in their ranges.
        config: of the run.
        clips: n_k of each partition; None where only the clients know them.
        booked: rounds that count as spent in the client's ledger before this one, in a simulation.

    Raises:
        RejectedError: naming the first number that differs, or that this run does not have.
    """
    for name in _out_of_place(report, config):
        raise RejectedError(FaultKind.IMPOSSIBLE, f"reports {name}, which this run does not have")
    if clips is not None:
        _same("num_examples", report.num_examples, clips[report.partition])
    plan = plan_of(config, report.num_examples, server_round=1)  # every round has the same steps
    _same("steps", report.steps, plan.steps)
    _same("sample_rate", report.sample_rate, plan.sample_rate)
    if config.data.client_hops:
        _check_hop(report, config, simulated=clips is not None)
    if report.delta is not None:
        _same("delta", report.delta, delta_of(config.privacy.delta, report.num_examples))
    if report.noise_multiplier is not None and config.privacy.noise_multiplier > 0:
        _same("noise_multiplier", report.noise_multiplier, config.privacy.noise_multiplier)
    if report.clip_norm is not None and config.privacy.clipping != "adaptive":
        _same("clip_norm", report.clip_norm, config.privacy.clip_norm)
    if config.is_private and clips is not None:
        _check_simulated(report, config, booked)
    elif config.is_private:
        _check_possible(report, config)


def _check_hop(report: ClientReport, config: Config, *, simulated: bool) -> None:
    """Refuse a time step that the client cannot have."""
    hop = report.frame_hop_ms
    if simulated:
        _same("frame_hop_ms", hop or 0, hops_of_clients(config)[report.partition])
    elif hop not in (config.data.frame_hop_ms, *config.data.client_hops):
        reason = f"reports frame_hop_ms = {hop}, data.frame-hops = {config.data.frame_hops!r}"
        raise RejectedError(FaultKind.IMPOSSIBLE, reason)


def _check_simulated(report: ClientReport, config: Config, booked: int) -> None:
    """Refuse other noise, or another ε, than the configuration gives this client."""
    work = workload_of(config, report.partition, report.num_examples)
    try:
        noise = noise_of(config, work)
    except BudgetError as error:
        raise RejectedError(FaultKind.IMPOSSIBLE, str(error)) from None
    if report.noise_multiplier is not None:
        _same("noise_multiplier", report.noise_multiplier, noise.gradients)
    if report.rate_noise is not None and noise.rates is not None:
        planned = noise.rates * config.privacy.rate_clip_norm / report.num_examples
        _same("rate_noise", report.rate_noise, planned)
    if report.epsilon is None:
        return
    privacy = config.privacy
    slack = EPS_ERROR if privacy.accountant == "prv" else 0.0  # on another mesh

    def cost(rounds: int) -> float:
        spends = noise.of(replace(work, rounds=rounds))
        return Ledger().with_entries(spends).epsilon(work.delta, privacy.accountant)

    # who said that it refused may have trained: more than is booked, never more than is planned
    most = cost(max(work.rounds, booked + 1)) + slack
    _check_most(report.epsilon, most if privacy.noise_multiplier else min(most, privacy.epsilon))
    least = cost(booked + 1)
    if report.epsilon < least * (1 - _ROUNDING) - slack:
        what = f"its {booked + 1} rounds cost" if booked else "this round alone costs"
        reason = f"epsilon {report.epsilon:.6g} is below {least:.6g}, what {what}"
        raise RejectedError(FaultKind.LEDGER, reason)


def _check_possible(report: ClientReport, config: Config) -> None:
    """Refuse noise that no device adds, and an ε at which it had refused.

    A device plans its noise for the rounds that it is asked in, of this run or what is left of it.
    """
    privacy = config.privacy
    if report.rate_noise is not None:
        delta = delta_of(privacy.delta, report.num_examples)
        budget = Budget(privacy.epsilon, config.rate_epsilon, privacy.accountant)
        least, most = (
            budget.rate_noise(Workload(1.0, 1, rounds, delta)) or 0.0
            for rounds in (1, config.run.rounds)
        )
        sigma = report.rate_noise * report.num_examples / privacy.rate_clip_norm
        if not least / _CALIBRATED <= sigma <= most * MOST_NOISE:
            reason = f"reports rate_noise = {report.rate_noise:.6g}, which no device adds"
            raise RejectedError(FaultKind.IMPOSSIBLE, reason)
    if report.epsilon is not None and privacy.noise_multiplier == 0:
        _check_most(report.epsilon, privacy.epsilon)


def _check_most(epsilon: float, most: float) -> None:
    if epsilon > most * (1 + _ROUNDING):
        reason = f"epsilon {epsilon:.6g} is above {most:.6g}, the most this run allows"
        raise RejectedError(FaultKind.IMPOSSIBLE, reason)


def _out_of_place(report: ClientReport, config: Config) -> Iterator[str]:
    """Yield what is reported and has no place in this run."""
    if not config.is_private:
        yield from (
            name
            for name in ("noise_multiplier", "clip_norm", "epsilon", "delta")
            if getattr(report, name) is not None
        )
    if report.rate_noise is not None and not config.rate_epsilon:
        yield "rate_noise"
    if report.frame_hop_ms is not None and not config.data.client_hops:
        yield "frame_hop_ms"
    if report.update_norm is not None and config.shares_noise:
        yield "update_norm"
    if report.shadow is not None and not config.evaluation.shadow:
        yield "a shadow"
    if report.floor is not None and not config.evaluation.floor:
        yield "a floor"
    if math.isnan(report.seconds) and not config.run.strict_privacy:
        yield "withheld numbers"


def _same(name: str, sent: float, planned: float) -> None:
    if not math.isclose(sent, planned, rel_tol=_ROUNDING):
        reason = f"reports {name} = {sent:.6g}, the configuration makes it {planned:.6g}"
        raise RejectedError(FaultKind.IMPOSSIBLE, reason)
