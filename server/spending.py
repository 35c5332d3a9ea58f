"""What the server knows of its clients' budgets: who was asked when, and what each has spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, JsonValue


class _State(BaseModel):
    """`Spending` as JSON: [partition, value] pairs."""

    model_config = ConfigDict(extra="forbid")

    rounds: list[tuple[int, list[int]]]
    epsilons: list[tuple[int, float]]


class Spending:
    """Rounds in which a client was asked and may have trained, and its ε after the last of them.

    A candidate whose reply is lost may have trained all the same, so its round counts as spent. In
    a simulation a client's own ledger is lost with the process that held it: it is told these
    rounds and books them again, as each costs what its public schedule says.
    """

    def __init__(self) -> None:
        self._rounds: dict[int, list[int]] = {}
        self._epsilons: dict[int, float] = {}

    @property
    def epsilons(self) -> Mapping[int, float]:
        """ε by partition, of all that have spent anything."""
        return self._epsilons

    def rounds(self, partition: int) -> list[int]:
        """Return the rounds that `partition` is taken to have trained in so far."""
        return self._rounds.get(partition, [])

    def book(self, server_round: int, partitions: Iterable[int]) -> None:
        """Note that `partitions` have trained in `server_round`, or may have."""
        for partition in partitions:
            self._rounds.setdefault(partition, []).append(server_round)

    def set_epsilon(self, partition: int, epsilon: float | None) -> None:
        """Note what `partition` has spent; None, as without privacy, changes nothing."""
        if epsilon is not None:
            self._epsilons[partition] = epsilon

    def state(self) -> dict[str, JsonValue]:
        """Return all of it as JSON."""
        return {
            "rounds": [[partition, list(rounds)] for partition, rounds in self._rounds.items()],
            "epsilons": [[partition, value] for partition, value in self._epsilons.items()],
        }

    def restore(self, state: object) -> None:
        """Take over what `state` returned.

        Raises:
            ValueError: if it is something else.
        """
        parsed = _State.model_validate(state)
        self._rounds = dict(parsed.rounds)
        self._epsilons = dict(parsed.epsilons)
