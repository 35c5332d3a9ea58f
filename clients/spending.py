"""How much noise a client adds, and whether its budget allows the next round."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from fnl.config import Config
from fnl.data.federated import open_federation
from fnl.errors import BudgetError
from fnl.privacy.budget import Budget, Noise, Workload, delta_of
from fnl.privacy.ledger import Ledger
from fnl.schedule import planned_participations
from fnl.training.plan import TrainingPlan

NEVER_ASKED = "the schedule asks this client in no round: it has no budget for one"


def plan_of(config: Config, clips: int, server_round: int) -> TrainingPlan:
    """Return the steps in `server_round` of a client with `clips` clips."""
    training = config.training
    return TrainingPlan.for_clips(
        clips,
        batch_size=training.batch_size,
        local_epochs=training.local_epochs,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate_of(server_round, config.run.rounds),
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        label_smoothing=training.label_smoothing,
        proximal_mu=training.proximal_mu,
    )


def workload_of(config: Config, partition: int, clips: int, *, first_round: int = 1) -> Workload:
    """Return what the client of `partition` will do in the run: public, known in advance.

    With a `first_round` from that round on, itself included.
    """
    rounds = _planned(config, config.run.rounds, partition)
    rounds = max(rounds - _planned(config, first_round - 1, partition), 0)
    plan = plan_of(config, clips, server_round=1)  # every round has the same steps
    delta = delta_of(config.privacy.delta, clips)
    return Workload(plan.sample_rate, plan.steps, rounds, delta)


def noise_of(config: Config, work: Workload) -> Noise:
    """Return the noise of a client: σ as given, or from the budget.

    Raises:
        BudgetError: if the client was never to be asked: its noise is set for no round at all.
        ConfigError: if no noise keeps the budget.
    """
    privacy = config.privacy
    if not work.rounds and (privacy.noise_multiplier == 0 or privacy.rate_epsilon > 0):
        raise BudgetError(NEVER_ASKED)
    if privacy.noise_multiplier > 0:
        return Noise(privacy.noise_multiplier, _budget(config).rate_noise(work))
    if privacy.noise_allocation == "uniform-noise":
        return _noise_of_all(config)
    return _budget(config).noise_of(work)


def at_least(ledger: Ledger, rounds: Sequence[int], noise: Noise, work: Workload) -> Ledger:
    """Return `ledger`, or what `rounds` cost if that is more.

    In a simulation the server says which rounds count as spent: a ledger is lost with the process
    that kept it, and an answer that was lost is taken to have cost its round.
    """
    booked = Ledger()
    for _ in rounds:
        booked = booked.with_entries(noise.round_of(work))
    return booked if booked.steps > ledger.steps else ledger


def refuse_overdraft(config: Config, ledger: Ledger, noise: Noise, work: Workload) -> None:
    """Let a round pass that the budget allows; a fixed σ has no budget.

    Raises:
        BudgetError: if the round would cost more than is left.
    """
    privacy = config.privacy
    if privacy.noise_multiplier > 0:
        return
    ahead, planned = noise.round_of(work), noise.run_of(work)
    if ledger.would_exceed(
        privacy.epsilon, ahead, delta=work.delta, accountant=privacy.accountant, planned=planned
    ):
        spent = ledger.epsilon(work.delta, privacy.accountant, planned)
        raise BudgetError(
            f"privacy.epsilon = {privacy.epsilon:g} is spent: {spent:.4g} so far, and this round "
            "would exceed it"
        )


def _planned(config: Config, rounds: int, partition: int) -> int:
    """Return in how many of the first `rounds` rounds the client of `partition` is asked."""
    asked = planned_participations(
        config.run.seed, rounds, config.data.clients, config.coordination.candidates
    )
    return int(asked[partition])


def _budget(config: Config) -> Budget:
    privacy = config.privacy
    return Budget(privacy.epsilon, privacy.rate_epsilon, privacy.accountant)


@lru_cache(maxsize=2)
def _noise_of_all(config: Config) -> Noise:
    """Return the one noise of all clients, from everyone's number of clips: they are public."""
    partitioning = open_federation(config).partitioning
    works = [
        workload_of(config, partition, len(partitioning.rows(partition)))
        for partition in range(config.data.clients)
    ]
    return _budget(config).noise_of_all(works)
