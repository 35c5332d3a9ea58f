"""From a budget (ε, δ) for the whole run to the noise of each client.

A client's gradients and its releases of rates are one ledger. The rates get the noise at which
they alone would cost their share of ε; the gradients get the least noise at which both together
cost no more than ε. Composed, both cost less than the sum of their parts, so the gradients gain
what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fnl.privacy.ledger import Accountant, Ledger, Spend, calibrate

LARGEST_N_DELTA = 0.1
"""The largest chance at which δ alone may publish one of n clips, or of n clients."""

NEVER_ASKED = "the schedule asks this client in no round: it has no budget for one"


@dataclass(frozen=True)
class Workload:
    """What one client will do with its clips over the whole run; all of it is public.

    Attributes:
        sample_rate: q of its mini-batches.
        steps: mini-batches in a round.
        rounds: rounds in which it is asked.
        delta: the δ at which its ε is stated.
    """

    sample_rate: float
    steps: int
    rounds: int
    delta: float


@dataclass(frozen=True)
class Noise:
    """The noise multipliers of a client.

    Attributes:
        gradients: σ.
        rates: σ_r; None where no rates are released.
    """

    gradients: float
    rates: float | None = None

    def scaled(self, factor: float) -> Noise:
        """Return `factor` times the noise."""
        return Noise(self.gradients * factor, None if self.rates is None else self.rates * factor)

    def round_of(self, work: Workload) -> tuple[Spend, ...]:
        """Return what one round costs."""
        return self.of(replace(work, rounds=1))

    def of(self, work: Workload) -> tuple[Spend, ...]:
        """Return what all rounds cost."""
        steps = Spend(self.gradients, work.sample_rate, work.steps * work.rounds)
        return (steps, *_releases(work, self.rates))

    def run_of(self, work: Workload) -> Ledger:
        """Return the ledger after all rounds."""
        return Ledger(self.of(work)) if work.rounds else Ledger()


@dataclass(frozen=True)
class Budget:
    """What a client may spend over the whole run.

    Attributes:
        epsilon: ε of everything together.
        rate_epsilon: ε at which the releases of rates alone are set; 0: no rates are released.
        accountant: "rdp", "prv" or one order of Rényi DP.
    """

    epsilon: float
    rate_epsilon: float = 0.0
    accountant: Accountant = "rdp"

    def noise_of(self, work: Workload) -> Noise:
        """Return the least noise that keeps this client's budget (`uniform-epsilon`).

        Raises:
            ConfigError: if no noise does.
        """
        rates = self.rate_noise(work)
        return Noise(self.gradient_noise(work, rates), rates)

    def noise_of_all(self, works: Sequence[Workload]) -> Noise:
        """Return the least noise that keeps every client's budget (`uniform-noise`).

        Clients that are never asked have no say.

        Raises:
            ConfigError: if no noise does.
            ValueError: if no client is ever asked.
        """
        asked = sorted({work for work in works if work.rounds}, key=repr)
        if not asked:
            raise ValueError("no client is ever asked: there is nothing to set the noise for")
        shares = [noise for work in asked if (noise := self.rate_noise(work)) is not None]
        rates = max(shares, default=None)
        gradients = self.gradient_noise(asked[0], rates)
        for work in asked[1:]:
            spent = Noise(gradients, rates).run_of(work)
            if spent.epsilon(work.delta, self.accountant) > self.epsilon:
                gradients = self.gradient_noise(work, rates)
        return Noise(gradients, rates)

    def rate_noise(self, work: Workload) -> float | None:
        """Return σ_r of this client; None where no rates are released."""
        if not self.rate_epsilon:
            return None
        return calibrate(
            epsilon=self.rate_epsilon,
            delta=work.delta,
            sample_rate=1.0,
            steps=work.rounds,
            accountant=self.accountant,
            keys=("privacy.rate-epsilon", "privacy.delta"),
        )

    def gradient_noise(
        self, work: Workload, rates: float | None, beside: tuple[Spend, ...] = ()
    ) -> float:
        """Return the least σ of gradients.

        Args:
            work: what the client will do.
            rates: σ_r of its releases of rates, if there are any.
            beside: what its clips have cost otherwise, out of the same budget.

        Raises:
            ConfigError: if none keeps the budget.
        """
        return calibrate(
            epsilon=self.epsilon,
            delta=work.delta,
            sample_rate=work.sample_rate,
            steps=work.steps * work.rounds,
            accountant=self.accountant,
            beside=(*_releases(work, rates), *beside),
        )


def _releases(work: Workload, rates: float | None) -> tuple[Spend, ...]:
    return () if rates is None else (Spend(rates, 1.0, work.rounds),)


def delta_of(configured: float, clips: int) -> float:
    """Return the δ of a client with `clips` clips: as configured, or 1/(10 n) where that is 0.

    A mechanism that publishes one of n clips whole with probability nδ is (0, δ)-DP.
    """
    return configured or LARGEST_N_DELTA / clips
