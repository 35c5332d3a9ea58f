"""What a round's rules decide."""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fnl.config import Config
from fnl.config.privacy_combinations import check_reads
from fnl.config.rules import MODELS, NOISE_KNOWN, ROBUST
from fnl.errors import ConfigError, RunError, running
from fnl.metrics.ranking import order
from fnl.randomness import Purpose, stream
from fnl.weights import Weights
from fnl.wire.report import ClientReport
from server.aggregation import ROBUST_RULES, Shares, aggregation_rule, combine, shares_of
from server.algorithm import Algorithm, Taken, algorithm_of, checked_like, checked_state
from server.context import History, RoundContext, State
from server.declaration import numbers_of, reads_of
from server.known_noise import KnownNoise
from server.selection import (
    Selection,
    estimated,
    select,
    selection_rule,
    within_share,
)


@dataclass(frozen=True)
class Coordination(Selection):
    """What a round's rules decided, over candidates in partition order: whom, and their shares.

    Attributes:
        weights: share of each selected candidate, float64 [m]; None where the rule gives no
            shares but combines the models coordinate by coordinate.
        kept: share of the global model the round started from; not 0 only for a mixing, where
            nobody has a weight, and where candidates are drawn in secret.
        note: what a user should know of how the shares came about; empty for nothing.
    """

    weights: NDArray[np.float64] | None = None
    kept: float = 0.0
    note: str = ""


def rules_read(config: Config) -> dict[str, frozenset[str] | None]:
    """Return what the rules read, by their keys of `coordination`; None where one does not say.

    An algorithm takes the place of those rules that it defines itself.

    Raises:
        ConfigError: if a rule of the user's own cannot be imported.
    """
    selection, aggregation = config.coordination.selection, config.coordination.aggregation
    algorithm = algorithm_of(config)
    read: dict[str, frozenset[str] | None] = {}
    if algorithm is not None:
        read["algorithm"] = None if algorithm.reads is None else frozenset(algorithm.reads)
    if algorithm is None or not algorithm.defines("select"):
        plain = config.coordination.estimate == "plain"
        read["selection"] = reads_of(selection_rule(selection)) if plain else NOISE_KNOWN[selection]
    if algorithm is None or not algorithm.defines("weigh"):
        read["aggregation"] = ROBUST.get(aggregation) or reads_of(aggregation_rule(aggregation))
    return read


def check_rates(config: Config, layers: Sequence[str]) -> None:
    """Refuse a run that needs firing rates of a network that has none.

    Raises:
        ConfigError: naming what needs them.
    """
    if layers:
        return
    rates = ("firing_rate", "layer_rates", "class_rates")
    remedies = {"selection": "random", "aggregation": "fedavg", "algorithm": "none"}
    keys = {
        f"coordination.{key} = {getattr(config.coordination, key)!r}": f"{remedies[key]!r}"
        for key, names in rules_read(config).items()
        if any(name.startswith(rates) for name in names or ())
    }
    if config.rate_epsilon > 0:
        keys[f"privacy.rate-release = {config.privacy.rate_release!r}"] = "'none'"
    if config.evaluation.sensitivity:
        keys["evaluation.sensitivity = true"] = "false"
    if keys:
        told = ", ".join(f"{key} (use {remedy})" for key, remedy in keys.items())
        raise ConfigError(
            f"model.network = {config.model.network!r} has no spiking neurons, whose firing rates "
            f"are needed by {told}"
        )


class Coordinator:
    """The configured rules, or the algorithm in their place. It keeps nothing between rounds.

    Attributes:
        algorithm: None without.

    Raises:
        ConfigError: if a rule of the user's own cannot be imported, or reads what privacy forbids.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._seed = config.run.seed
        self._settings = config.coordination
        self.algorithm: Algorithm | None = algorithm_of(config)
        self._selection = selection_rule(self._settings.selection)
        name = self._settings.aggregation
        self._weighting = None if name in ROBUST_RULES else aggregation_rule(name)
        self._named = {"select": self._settings.selection, "weigh": name}
        if self.algorithm is not None and self.algorithm.defines("select"):
            self._selection = self.algorithm.as_rule("select")
            self._named["select"] = f"{self._settings.algorithm}.select"
        if self.algorithm is not None and self.algorithm.defines("weigh"):
            self._weighting = self.algorithm.as_rule("weigh")
            self._named["weigh"] = f"{self._settings.algorithm}.weigh"
        for key, reads in rules_read(config).items():
            check_reads(config, key, reads)

    def decide(
        self, server_round: int, reports: Sequence[ClientReport], history: History, state: State
    ) -> Coordination:
        """Return whom the rules select and with what weight; `reports` in partition order.

        Raises:
            RunError: if a rule returns what it must not.
        """
        context = self._context(server_round, reports, history, state)
        name = self._named["select"]
        choice = select(context.candidates, self._selection, context, name=name)
        if self._settings.estimate != "plain":
            choice = self._estimated(choice, context)
        choice = within_share(choice, context.candidates, context)
        chosen = {field.name: getattr(choice, field.name) for field in fields(Selection)}
        return Coordination(**chosen, **self._weighed(choice.selected, context))

    def without(
        self,
        server_round: int,
        reports: Sequence[ClientReport],
        history: History,
        state: State,
        *,
        decision: Coordination,
        missing: Container[int],
    ) -> Coordination:
        """Return `decision` for those of its selected whose partitions are not `missing`.

        Nobody takes the place of the missing. The aggregation rule weighs the others anew, as if
        they alone had been selected: shares that sum to one do so again, and of a mixing the
        global model keeps what the missing would have had.

        Raises:
            RunError: if the rule returns what it must not.
        """
        there = [reports[position].partition not in missing for position in decision.selected]
        if all(there):
            return decision
        context = self._context(server_round, reports, history, state)
        left = decision.selected[there]
        return replace(decision, selected=left, **self._weighed(left, context))

    def _estimated(self, choice: Selection, context: RoundContext) -> Selection:
        """Return the selection by what the scores are estimated to be, else a random one."""
        rule = self._settings.selection
        found = estimated(choice.scores, context.candidates, context, rule=rule)
        at_random = found.reliability <= self._settings.min_reliability
        by_rank = (
            context.stream.permutation(len(found.scores)) if at_random else order(found.scores)
        )
        return Selection(
            found.scores, by_rank[: context.count], found.memory, found.reliability, at_random
        )

    def _context(
        self, server_round: int, reports: Sequence[ClientReport], history: History, state: State
    ) -> RoundContext:
        bound, most = self._config.privacy.rate_clip_norm, self._config.most_rate
        return RoundContext(
            server_round=server_round,
            candidates=tuple(
                report.in_range(bound, most_rate=most(report.frame_hop_ms)) for report in reports
            ),
            count=self._count(len(reports)),
            stream=stream(self._seed, Purpose.SELECTION, server_round),
            history=history,
            settings=self._settings,
            noise=KnownNoise.of(self._config, server_round),
            state=state,
        )

    def _count(self, there: int) -> int:
        """Return how many candidates are selected of so many: all if they are drawn in secret."""
        if self._config.samples_candidates:
            return there
        return min(self._settings.selected, there)

    def _weighed(self, selected: NDArray[np.int64], context: RoundContext) -> dict[str, Any]:
        """Return the fields of a `Coordination` about the shares of the selected."""
        shares: Shares | None = None
        if self._weighting is not None and selected.size:
            chosen = [context.candidates[position] for position in selected]
            shares = shares_of(chosen, self._weighting, context, name=self._named["weigh"])
        elif self._weighting is not None:  # a rule need not know what to do without anybody
            shares = Shares(np.zeros(0), kept=1.0)
        if shares is None:
            return {"weights": None, "kept": 0.0, "note": ""}
        return {"weights": shares.clients, "kept": shares.kept, "note": shares.note}

    def lacking(self, decision: Coordination) -> str:
        """Return why the rule cannot combine whom `decision` selects; empty if it can.

        With fewer models than a robust rule needs it still gives one, which one client may steer.
        """
        needed = self._settings.least_models
        if decision.weights is not None or len(decision.selected) >= needed:
            return ""
        return (
            f"coordination.aggregation = {self._settings.aggregation!r} needs {needed} models, "
            f"there are {len(decision.selected)}: the model stays as it was"
        )

    def combine(
        self,
        server_round: int,
        reports: Sequence[ClientReport],
        models: Sequence[Weights],
        decision: Coordination,
        *,
        before: Weights,
    ) -> Weights:
        """Return the aggregate of the selected `models`, best first; `reports` of all candidates.

        Raises:
            RunError: if the rule refuses the models.
        """
        rule: Shares | FedAvg  # a rule of Flower's is told how many models there are
        if decision.weights is None:
            there = self._settings.model_copy(update={"selected": len(models)})
            rule = ROBUST_RULES[self._settings.aggregation](there)
        else:
            rule = Shares(decision.weights, decision.kept)
        chosen = [reports[position] for position in decision.selected]
        return combine(server_round, chosen, models, rule, before=before)

    def start(self, weights: Weights) -> State:
        """Return the state of the algorithm before the first round.

        Raises:
            RunError: if it is no state.
        """
        if self.algorithm is None:
            return {}
        with self._running("start"):
            state = self.algorithm.start(weights, self._config)
        return checked_state(state, self._settings.algorithm)

    def correction(self, state: State, partition: int, *, like: Weights) -> Weights | None:
        """Return what a client adds to each of its gradients; None for nothing.

        Raises:
            RunError: if it is not of the model's weights.
        """
        with self._running("correction"):
            given = self.algorithm and self.algorithm.correction(state, partition)
        what = f"what {self._what('correction')} returns"
        return None if given is None else checked_like(given, like, what)

    def step(
        self,
        server_round: int,
        reports: Sequence[ClientReport],
        models: Sequence[Weights],
        decided: tuple[Coordination, History, State],
        *,
        before: Weights,
        aggregate: Weights,
    ) -> tuple[Weights, State, Coordination]:
        """Return towards what the server steps, the next state, and the decision with its shares.

        Args:
            server_round: the round.
            reports: of all candidates.
            models: of the selected, best first.
            decided: of the candidates, with history and state before the round.
            before: the global weights.
            aggregate: of the models.

        Raises:
            RunError: if the algorithm returns what it must not.
        """
        decision, history, state = decided
        algorithm = self.algorithm
        if algorithm is None or not algorithm.defines("step") or not decision.selected.size:
            return aggregate, state, decision
        declared = algorithm.reads is None or MODELS in algorithm.reads
        chosen = [reports[position] for position in decision.selected]
        context = self._context(server_round, reports, history, state)
        taken = Taken(
            replace(context, candidates=tuple(algorithm.shown(context.candidates))),
            before,
            algorithm.shown(chosen),
            decision.weights,
            aggregate,
            self._config,
            models if declared else None,
        )
        with self._running("step"):
            stepped = algorithm.step(taken)
        if stepped.shares is not None:
            name, whose = f"the algorithm {self._settings.algorithm!r}", "selected client"
            shares = numbers_of(stepped.shares, len(chosen), name, "share", whose)
            decision = replace(decision, weights=shares)
        weights = checked_like(stepped.weights, before, f"what {self._what('step')} returns")
        return weights, checked_state(stepped.state, self._settings.algorithm), decision

    def _running(self, method: str) -> AbstractContextManager[None]:
        return running(f"{self._what(method)} failed", raises=RunError)

    def _what(self, method: str) -> str:
        return f"{self._settings.algorithm}.{method}"
