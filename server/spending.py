"""What the server knows of its clients' budgets: who was asked when, and what each has spent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import to_jsonable_python

from fnl.config import Config
from fnl.privacy.ledger import Ledger
from fnl.schedule import asked_in
from fnl.wire.report import ClientReport
from server.replies.rejections import FaultKind, Rejection

_COST_NOTHING = (FaultKind.REFUSED, FaultKind.STRANGER, FaultKind.DUPLICATE, FaultKind.LATE)
"""Who refuses has not trained; the others come beside an answer, or beside a row that says none."""

_Partition = Annotated[int, Field(ge=0)]
_Epsilon = Annotated[float, Field(ge=0)]  # infinite where nothing bounds it
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(gt=0, le=1)]


class _State(BaseModel):
    """`Spending` as JSON: [partition, value] pairs."""

    model_config = ConfigDict(extra="forbid")

    rounds: list[tuple[_Partition, list[Annotated[int, Field(ge=1)]]]]
    reported: list[tuple[_Partition, _Epsilon]]
    assumed: list[tuple[_Partition, _Epsilon]]
    steps: list[tuple[_Partition, tuple[_Positive, _Share, Annotated[int, Field(ge=1)], _Share]]]
    clip_norms: list[tuple[_Partition, _Positive]]


class Spending:
    """Rounds in which a client was asked and may have trained, and its ε after the last of them.

    A candidate whose reply is lost may have trained all the same, so its round counts as spent. In
    a simulation a client's own ledger is lost with the process that held it: it is told these
    rounds and books them again, as each costs what its public schedule says.

    Args:
        config: of the run.
        devices: whether clients have ledgers of their own that also hold earlier runs, and set
            their noise by them: what the rounds of this run cost is no bound on all then.
    """

    def __init__(self, config: Config, *, devices: bool = False) -> None:
        self._config = config
        self._devices = devices
        self._rounds: dict[int, list[int]] = {}
        self._reported: dict[int, float] = {}
        self._assumed: dict[int, float] = {}
        self._steps: dict[int, tuple[float, float, int, float]] = {}
        self._clip_norms: dict[int, float] = {}

    @property
    def reported(self) -> Mapping[int, float]:
        """ε by partition, as its client last said."""
        return self._reported

    @property
    def epsilons(self) -> Mapping[int, float]:
        """ε by partition, of all that may have spent anything: reported, or assumed since then."""
        return self._reported | self._assumed

    def rounds(self, partition: int) -> list[int]:
        """Return the rounds that `partition` is taken to have trained in so far."""
        return self._rounds.get(partition, [])

    def clip_norm(self, partition: int) -> float | None:
        """Return where the adaptive bound of `partition` stood after its last answer, if it did."""
        return self._clip_norms.get(partition)

    def repeat(self, rounds: Iterable[int]) -> None:
        """Book rounds that were asked for, with fresh noise, and are done again.

        Whoever was asked may have trained, and what it gave cannot be called back.
        """
        for server_round in rounds:
            for partition in asked_in(self._config, server_round):
                self._rounds.setdefault(int(partition), []).append(server_round)

    def book(
        self,
        server_round: int,
        reports: Sequence[ClientReport],
        rejections: Sequence[Rejection],
    ) -> tuple[float | None, ...]:
        """Book a round: what candidates report, and what the others may have spent.

        Whose report was taken has said what it spent: nothing is assumed of it when something else
        that it sent, the weights it was asked for in a second phase, was not to be taken.

        Returns:
            The ε that each of the rejected is taken to have spent; infinite if nothing bounds it,
            None if nothing is assumed.
        """
        self._book_reports(server_round, reports)
        reported = {report.partition for report in reports}
        return tuple(
            None
            if rejection.partition is None
            or rejection.partition in reported
            or rejection.kind in _COST_NOTHING
            else self._lost(server_round, rejection.partition)
            for rejection in rejections
        )

    def _book_reports(self, server_round: int, reports: Iterable[ClientReport]) -> None:
        for report in reports:
            self._rounds.setdefault(report.partition, []).append(server_round)
            if report.epsilon is None:
                continue
            self._reported[report.partition] = report.epsilon
            self._assumed.pop(report.partition, None)
            if report.noise_multiplier and report.delta:
                sigma, rate = report.noise_multiplier, report.sample_rate
                self._steps[report.partition] = (sigma, rate, report.steps, report.delta)
            if report.clip_norm is not None and self._config.privacy.clipping == "adaptive":
                self._clip_norms[report.partition] = report.clip_norm

    def _lost(self, server_round: int, partition: int) -> float | None:
        self._rounds.setdefault(partition, []).append(server_round)
        if not self._config.is_private:
            return None
        self._assumed[partition] = self._bound(partition)
        return self._assumed[partition]

    def _bound(self, partition: int) -> float:
        """Return the least bound there is on what `partition` has spent."""
        privacy = self._config.privacy
        bound = privacy.epsilon if privacy.noise_multiplier == 0 else math.inf
        if not self._devices and not self._config.rate_epsilon and partition in self._steps:
            noise_multiplier, sample_rate, steps, delta = self._steps[partition]
            total = steps * len(self.rounds(partition))
            spent = Ledger().spend(noise_multiplier, sample_rate, total)
            bound = min(bound, spent.epsilon(delta, privacy.accountant))
        return max(bound, self._reported.get(partition, 0.0))

    def state(self) -> dict[str, JsonValue]:
        """Return all of it as JSON."""
        kept = {name: getattr(self, f"_{name}") for name in _State.model_fields}
        return {name: to_jsonable_python(list(values.items())) for name, values in kept.items()}

    def restore(self, state: object) -> None:
        """Take over what `state` returned.

        Raises:
            ValueError: if it is something else.
        """
        for name, pairs in _State.model_validate(state):
            setattr(self, f"_{name}", dict(pairs))
