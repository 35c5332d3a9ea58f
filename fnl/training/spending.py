"""What a client will do, how much noise it adds to it, and whether its budget allows a round."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from fnl.config import Config
from fnl.data.federated import open_federation
from fnl.errors import BudgetError
from fnl.privacy.budget import NEVER_ASKED, Budget, Noise, Workload, delta_of
from fnl.privacy.ledger import Ledger
from fnl.schedule import planned_of
from fnl.training.plan import plan_of
from fnl.training.units import unit_counts


def workload_of(config: Config, partition: int, clips: int, *, first_round: int = 1) -> Workload:
    """Return what the client of `partition` with `clips` units does: public, known in advance.

    With a `first_round` from that round on, itself included.
    """
    rounds = _planned(config, config.run.rounds, partition)
    rounds = max(rounds - _planned(config, first_round - 1, partition), 0)
    return _workload(config, clips, rounds)


def workloads_of_all(config: Config) -> list[Workload]:
    """Return what clients do, each of different workloads once: N clients have few of them."""
    counts = unit_counts(config, open_federation(config))
    kinds = set(zip(counts, planned_of(config, config.run.rounds).tolist(), strict=True))
    return [_workload(config, clips, rounds) for clips, rounds in sorted(kinds)]


def noise_of(config: Config, work: Workload) -> Noise:
    """Return the noise of a client: σ as given, or from the budget.

    Raises:
        BudgetError: if the client was never to be asked: its noise is set for no round at all.
        ConfigError: if no noise keeps the budget.
    """
    privacy = config.privacy
    if not work.rounds and (privacy.noise_multiplier == 0 or config.rate_epsilon > 0):
        raise BudgetError(NEVER_ASKED)
    if privacy.noise_multiplier > 0:
        return Noise(privacy.noise_multiplier, _budget(config).rate_noise(work))
    if privacy.noise_allocation == "uniform-noise" or config.shares_noise:
        return _noise_of_all(config)
    return _budget(config).noise_of(work)


def book_round(
    config: Config, ledger: Ledger, noise: Noise, work: Workload, spent_rounds: Sequence[int] = ()
) -> Ledger:
    """Return `ledger` with one more round in it.

    In a simulation the server says which rounds count as spent: a ledger is lost with the process
    that kept it, and an answer that was lost is taken to have cost its round. Where these cost more
    than is in `ledger` they take its place. A fixed σ has no budget.

    Raises:
        BudgetError: if the round would cost more than is left of the budget.
    """
    privacy, ahead = config.privacy, noise.round_of(work)
    booked = Ledger().with_entries([entry for _ in spent_rounds for entry in ahead])
    ledger = booked if booked.steps > ledger.steps else ledger
    if privacy.noise_multiplier == 0 and ledger.would_exceed(
        privacy.epsilon, ahead, delta=work.delta, accountant=privacy.accountant
    ):
        spent = ledger.epsilon(work.delta, privacy.accountant)
        raise BudgetError(
            f"privacy.epsilon = {privacy.epsilon:g} is spent: {spent:.4g} so far, and this round "
            "would exceed it"
        )
    return ledger.with_entries(ahead)


def _workload(config: Config, clips: int, rounds: int) -> Workload:
    plan = plan_of(config, clips, server_round=1)  # every round has the same steps
    return Workload(plan.sample_rate, plan.steps, rounds, delta_of(config.privacy.delta, clips))


def _planned(config: Config, rounds: int, partition: int) -> int:
    """Return in how many of the first `rounds` rounds the client of `partition` is asked."""
    return int(planned_of(config, rounds)[partition])


def _budget(config: Config) -> Budget:
    """Return what each client may spend over the whole run."""
    privacy = config.privacy
    return Budget(privacy.epsilon, config.rate_epsilon, privacy.accountant)


@lru_cache(maxsize=2)
def _noise_of_all(config: Config) -> Noise:
    """Return the one noise of all clients, from everyone's number of clips: they are public."""
    return _budget(config).noise_of_all(workloads_of_all(config))
