"""What an audit attacks, and what its attacks prove, one line after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fnl.audit.claims import Mechanism
from fnl.audit.lira import membership_inference
from fnl.audit.rates import RAW_CANARIES, attack_raw_rates, public_models
from fnl.audit.released_rates import attack_private_rates
from fnl.audit.result import AuditResult
from fnl.audit.weights import Notify, attack_weights
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.errors import ConfigError

ATTACKED = ("weights", "membership", "rates")
SENSITIVITY, STEERING, BOOKS = "sensitivity", "steering", "books"
INVERSION = "inversion"
DEFAULT_TARGETS = (*ATTACKED, SENSITIVITY, STEERING, BOOKS)
TARGETS = (*DEFAULT_TARGETS, INVERSION)
"""The last one tests no claim, so it is asked for by name."""


@dataclass(frozen=True)
class AuditPlan:
    """What to attack.

    Attributes:
        epsilons: budgets to claim; infinite: no privacy.
        targets: of `TARGETS`.
        canaries: of each client.
        models: that membership inference trains; half of them are its shadows.
        clips: removed in turn to measure sensitivities, and clients; looked for by inversion.
        broken: also mechanisms that are broken on purpose.
        confidence: of every lower bound.
        batches: clips in the steps whose updates are inverted.

    Raises:
        ConfigError: naming what cannot be attacked.
    """

    epsilons: tuple[float, ...]
    targets: tuple[str, ...]
    canaries: int
    models: int
    broken: bool
    confidence: float
    clips: int = 5
    batches: tuple[int, ...] = (1, 8)

    def __post_init__(self) -> None:
        for epsilon in self.epsilons:
            if not epsilon > 0:  # as it is for nan
                raise ConfigError(f"--epsilon {epsilon} is not above 0; inf means no privacy")
        for target in self.targets:
            if target not in TARGETS:
                raise ConfigError(f"--target {target!r} is unknown: choose {', '.join(TARGETS)}")
        for batch in self.batches:
            if batch < 1:
                raise ConfigError(f"--batch {batch} is not above 0")

    @property
    def attacks(self) -> bool:
        """Whether a claim is attacked: the other targets are measured."""
        return any(target in ATTACKED for target in self.targets)

    @property
    def inverts(self) -> bool:
        """Whether updates are inverted."""
        return INVERSION in self.targets

    def claims(self, *, infinite: bool) -> list[tuple[Mechanism, float]]:
        """Return the mechanisms to attack with their budgets; without noise none is broken."""
        kinds = list(Mechanism) if self.broken else [Mechanism.CORRECT]
        return [
            (kind, epsilon)
            for kind in kinds
            for epsilon in self.epsilons
            if math.isfinite(epsilon) or (infinite and kind is Mechanism.CORRECT)
        ]

    def amount(self, config: Config) -> int:
        """Return how often the attacks notify."""
        amounts = {
            "weights": len(self.claims(infinite=True)) * config.run.rounds * config.data.clients,
            "membership": len(self.epsilons) * self.models,
            "rates": len(self.claims(infinite=False)),
        }
        return sum(amounts[target] for target in set(self.targets) & set(ATTACKED))


def check_auditable(config: Config) -> None:
    """Refuse a configuration whose claims no audit derives.

    Raises:
        ConfigError: naming the key.
    """
    privacy = config.privacy
    if privacy.mode != "record":
        raise ConfigError(
            f"privacy.mode = {privacy.mode!r}: an audit is of record-level privacy, use "
            "privacy.mode = 'record' (and --epsilon inf for none), or --target sensitivity"
        )
    if privacy.unit != "clip":
        raise ConfigError(
            f"privacy.unit = {privacy.unit!r}: the attacks are on single clips, use --target "
            "sensitivity, steering or books"
        )
    if config.shares_noise:
        raise ConfigError(
            "privacy.noise = 'distributed': the attacks are on what one client sends, which is "
            "random here: use --target sensitivity, steering or books"
        )
    if privacy.noise_multiplier > 0:
        raise ConfigError(
            f"privacy.noise-multiplier = {privacy.noise_multiplier} fixes the noise: an audit "
            "derives it from the budgets of --epsilon, leave it at 0"
        )
    if not privacy.delta:
        raise ConfigError("privacy.delta = 0 differs from client to client: give one for an audit")


def attack(
    config: Config, federation: Federation, plan: AuditPlan, notify: Notify
) -> Iterator[AuditResult]:
    """Yield what each attack proves, in the order of `ATTACKED`.

    Args:
        config: whose claims are attacked.
        federation: its clips.
        plan: what to attack.
        notify: called after each of `AuditPlan.amount` pieces of work.
    """
    confidence = plan.confidence
    if "weights" in plan.targets:
        for mechanism, epsilon in plan.claims(infinite=True):
            made = attack_weights(
                config,
                federation,
                mechanism=mechanism,
                epsilon=epsilon,
                canaries=plan.canaries,
                notify=notify,
            )
            for one in made:
                yield one.result(confidence)
    if "membership" in plan.targets:
        for epsilon in plan.epsilons:
            yield membership_inference(
                config,
                federation,
                mechanism=Mechanism.CORRECT,
                epsilon=epsilon,
                models=plan.models,
                confidence=confidence,
                notify=notify,
            )
    if "rates" in plan.targets:
        models = public_models(config, federation)
        raw = attack_raw_rates(
            config,
            federation,
            models,
            canaries=min(RAW_CANARIES, plan.canaries),
            repeats=max(1, plan.canaries // RAW_CANARIES),
        )
        yield raw.result(confidence)
        for mechanism, epsilon in plan.claims(infinite=False):
            private = attack_private_rates(
                config,
                federation,
                models,
                mechanism=mechanism,
                epsilon=epsilon,
                repeats=plan.canaries,
            )
            notify()
            yield private.result(confidence)
