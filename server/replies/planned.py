"""A report against what the run's configuration says that its client has done.

Steps, sampling rate and δ of a round follow from the configuration and the number of clips. A
client that reports others has not done what it was asked, or does not say what it did.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from fnl.config import Config
from fnl.privacy.budget import delta_of
from fnl.training.plan import plan_of
from fnl.wire.report import ClientReport
from server.replies.rejections import FaultKind, RejectedError

_ROUNDING = 1e-9
"""Relative difference of numbers that are the same."""


def check_plan(report: ClientReport, config: Config, clips: Sequence[int] | None) -> None:
    """Refuse a report of other work than was asked for.

    Args:
        report: its entries are in their ranges.
        config: of the run.
        clips: n_k of each partition; None where only the clients know them.

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
    if report.delta is not None:
        _same("delta", report.delta, delta_of(config.privacy.delta, report.num_examples))
    if report.noise_multiplier is not None and config.privacy.noise_multiplier > 0:
        _same("noise_multiplier", report.noise_multiplier, config.privacy.noise_multiplier)


def _out_of_place(report: ClientReport, config: Config) -> Iterator[str]:
    """Yield what is reported and has no place in this run."""
    if not config.is_private:
        yield from (
            name
            for name in ("noise_multiplier", "epsilon", "delta")
            if getattr(report, name) is not None
        )
    if report.rate_noise is not None and not config.rate_epsilon:
        yield "rate_noise"
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
