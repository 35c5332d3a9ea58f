"""`fnl audit`: attacks a configuration's claims, and prints and writes what the attacks prove."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fnl.audit.claims import Mechanism
from fnl.audit.lira import membership_inference
from fnl.audit.rates import (
    RAW_CANARIES,
    attack_private_rates,
    attack_raw_rates,
    public_models,
)
from fnl.audit.result import AuditResult, one_run_result, write_results
from fnl.audit.weights import Notify, attack_weights
from fnl.config import Config, parse_config, parse_overrides
from fnl.data.federated import Federation, prepare
from fnl.errors import ConfigError, RunError
from fnl.runtime.determinism import one_thread

AUDIT_FILE = "audit.parquet"
TARGETS = ("weights", "membership", "rates")

_TABLE_WIDTH = 140
"""Characters that the table needs; wider than a pipe's."""

_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True)


@dataclass(frozen=True)
class AuditPlan:
    """What to attack.

    Attributes:
        epsilons: budgets to claim; infinite: no privacy.
        targets: of `TARGETS`.
        canaries: of each client.
        models: that membership inference trains; half of them are its shadows.
        broken: also mechanisms that are broken on purpose.
        confidence: of every lower bound.

    Raises:
        ConfigError: naming what cannot be attacked.
    """

    epsilons: tuple[float, ...]
    targets: tuple[str, ...]
    canaries: int
    models: int
    broken: bool
    confidence: float

    def __post_init__(self) -> None:
        for epsilon in self.epsilons:
            if not epsilon > 0:  # as it is for nan
                raise ConfigError(f"--epsilon {epsilon} is not above 0; inf means no privacy")
        for target in self.targets:
            if target not in TARGETS:
                raise ConfigError(f"--target {target!r} is unknown: choose {', '.join(TARGETS)}")

    def claims(self, *, infinite: bool) -> list[tuple[Mechanism, float]]:
        """Return the mechanisms to attack with their budgets; without noise none is broken."""
        kinds = list(Mechanism) if self.broken else [Mechanism.CORRECT]
        return [
            (kind, epsilon)
            for kind in kinds
            for epsilon in self.epsilons
            if math.isfinite(epsilon) or (infinite and kind is Mechanism.CORRECT)
        ]


def audit(
    assignments: Sequence[str], plan: AuditPlan, *, output: Path | None, as_json: bool
) -> None:
    """Attack what the configuration would release, print the proofs and write `audit.parquet`.

    Raises:
        ConfigError: if the configuration has nothing to audit.
        RunError: if the claim of a mechanism that was not broken is refuted.
    """
    config = parse_config(parse_overrides(assignments))
    _check(config)
    folder = output or Path(config.run.results_dir) / "audit"
    _make(folder)
    federation = prepare(config, progress=True)
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
    )
    results: list[AuditResult] = []
    with Progress(*columns, console=_err, transient=True) as progress, one_thread():
        task = progress.add_task("audit", total=_amount(config, plan))
        attacks = _Attacks(config, federation, plan, lambda: progress.advance(task))
        for result in attacks.results():
            progress.update(task, description=f"{result.target}, {result.mechanism}")
            results.append(result)
    path = (folder / AUDIT_FILE).absolute()
    write_results(path, results)
    if as_json:
        print(json.dumps({"path": str(path), "results": [_finite(r) for r in results]}))
    else:
        _print_table(results)
        _out.print(f"audit {path}")
    _refuse_refuted(results)


class _Attacks:
    """The lines of an audit, one by one."""

    def __init__(
        self, config: Config, federation: Federation, plan: AuditPlan, notify: Notify
    ) -> None:
        self._config = config
        self._federation = federation
        self._plan = plan
        self._notify = notify

    def results(self) -> Iterator[AuditResult]:
        """Yield what each attack proves, in the order of `TARGETS`."""
        if "weights" in self._plan.targets:
            yield from self._weights()
        if "membership" in self._plan.targets:
            yield from self._membership()
        if "rates" in self._plan.targets:
            yield from self._rates()

    def _weights(self) -> Iterator[AuditResult]:
        for mechanism, epsilon in self._plan.claims(infinite=True):
            made = attack_weights(
                self._config,
                self._federation,
                mechanism=mechanism,
                epsilon=epsilon,
                canaries=self._plan.canaries,
                notify=self._notify,
            )
            for attack, scores in (("white-box", made.white_box), ("black-box", made.black_box)):
                yield one_run_result(
                    "weights",
                    attack,
                    made.claim,
                    scores,
                    made.included,
                    confidence=self._plan.confidence,
                    noise_ratio=made.noise_ratio if attack == "white-box" else math.nan,
                )

    def _membership(self) -> Iterator[AuditResult]:
        for mechanism, epsilon in self._plan.claims(infinite=True):
            if mechanism is Mechanism.CORRECT:
                yield membership_inference(
                    self._config,
                    self._federation,
                    mechanism=mechanism,
                    epsilon=epsilon,
                    models=self._plan.models,
                    confidence=self._plan.confidence,
                    notify=self._notify,
                )

    def _rates(self) -> Iterator[AuditResult]:
        models = public_models(self._config, self._federation)
        raw = attack_raw_rates(
            self._config,
            self._federation,
            models,
            canaries=min(RAW_CANARIES, self._plan.canaries),
            repeats=max(1, self._plan.canaries // RAW_CANARIES),
        )
        yield one_run_result(
            "rates-raw",
            "white-box",
            raw.claim,
            raw.scores,
            raw.included,
            confidence=self._plan.confidence,
        )
        for mechanism, epsilon in self._plan.claims(infinite=False):
            private = attack_private_rates(
                self._config,
                self._federation,
                models,
                mechanism=mechanism,
                epsilon=epsilon,
                repeats=self._plan.canaries,
            )
            self._notify()
            yield one_run_result(
                "rates-private",
                "white-box",
                private.claim,
                private.scores,
                private.included,
                confidence=self._plan.confidence,
            )


def _amount(config: Config, plan: AuditPlan) -> int:
    """Return how often the attacks of `plan` notify."""
    everything, finite = plan.claims(infinite=True), plan.claims(infinite=False)
    amount = 0
    if "weights" in plan.targets:
        amount += len(everything) * config.run.rounds * config.data.clients
    if "membership" in plan.targets:
        amount += sum(kind is Mechanism.CORRECT for kind, _ in everything) * plan.models
    return amount + ("rates" in plan.targets) * len(finite)


def _check(config: Config) -> None:
    privacy = config.privacy
    if privacy.mode != "record":
        raise ConfigError(
            f"privacy.mode = {privacy.mode!r}: an audit is of record-level privacy, "
            "use privacy.mode = 'record' (and --epsilon inf for none)"
        )
    if privacy.noise_multiplier > 0:
        raise ConfigError(
            f"privacy.noise-multiplier = {privacy.noise_multiplier} fixes the noise: an audit "
            "derives it from the budgets of --epsilon, leave it at 0"
        )
    if not privacy.delta:
        raise ConfigError("privacy.delta = 0 differs from client to client: give one for an audit")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}") from None


def _refuse_refuted(results: Sequence[AuditResult]) -> None:
    for result in results:
        proven = result.attack != "membership"  # whose bound is an estimate
        if proven and result.mechanism == Mechanism.CORRECT.value and result.refuted:
            proof = f"at {result.confidence:.0%} confidence ε is at least {result.lower_bound:.2f}"
            if result.noise_ratio < 1:
                proof = f"it has at most {result.noise_ratio:.3f} of the noise that is booked"
            raise RunError(
                f"the claim ε = {result.claimed_epsilon:.2f} of {result.target} is refuted: {proof}"
            )


def _finite(result: AuditResult) -> dict[str, object]:
    """Return the fields with null for infinity and nan, which JSON lacks."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(result).items()
    }


def _print_table(results: Sequence[AuditResult]) -> None:
    table = Table(
        "target",
        "mechanism",
        "attack",
        "claimed ε",
        "ε at least",
        "",
        "right",
        "AUC",
        "TPR at 1 %",
        "noise",
    )
    for column in table.columns:
        column.no_wrap = True
    for result in results:
        table.add_row(
            result.target,
            result.mechanism,
            result.attack,
            f"{result.claimed_epsilon:.2f}",
            f"{result.lower_bound:.2f}",
            "refuted" if result.refuted else "",
            f"{result.correct}/{result.guesses} of {result.canaries}",
            f"{result.auc:.3f}",
            f"{result.tpr:.3f}",
            "" if math.isnan(result.noise_ratio) else f"{result.noise_ratio:.3f}",
        )
    wide = Console(width=max(_out.width, _TABLE_WIDTH), highlight=False)
    wide.print(table)
    first = results[0]
    _out.print(f"δ = {first.delta:g}, each bound at {first.confidence:.0%} confidence")
