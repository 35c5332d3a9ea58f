"""What a round makes of its answers: the next global model, and what goes on to the next round."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fnl.config import Config
from fnl.errors import RunError
from fnl.privacy.sampled_clients import expected_shares
from fnl.weights import Weights
from fnl.wire import exchange
from fnl.wire.report import ClientReport
from server.aggregation import OptimizerState, server_step
from server.average import moved
from server.carried import Carried
from server.client_privacy import ClientPrivacy
from server.context import History, State
from server.coordination import Coordination, Coordinator
from server.counted import among, as_expected, in_the_sum, known_beforehand
from server.global_round import Decided, GlobalRound, noted
from server.replies.rejections import FaultKind, require_enough
from server.replies.uploads import Uploads, request_uploads
from server.replies.vetting import Answer
from server.residuals import Residuals
from server.shared_noise import SummedUpdates


@dataclass(frozen=True)
class _Step:
    """What a round comes to: its weights, what the next round goes on with, and its decision."""

    after: Weights
    optimizer: OptimizerState
    state: State
    decision: Coordination


class Rounds:
    """Rounds that select and weigh clients by their firing rates.

    The selection rule scores the candidates on their reports, the aggregation rule makes one model
    of the best `coordination.selected`, and the server optimizer steps towards it. With shadows the
    same rules also run on the candidates' non-private rates, from the same state. With
    `coordination.probe` the selected are asked for their weights by a second message.

    Under client-level privacy who is selected, and with what share, is decided over all that were
    asked, from public numbers alone. Whose update is missing or was not to be taken, for whatever
    reason, counts as not having moved: nothing else of the round depends on that. The same holds
    where candidates are drawn in secret, privately or not: all of them are in a sum whose shares
    are fixed beforehand, and there may be nobody.

    Args:
        config: of the run.
        nodes: partition -> node id.
        grid: the engine, for further messages to the selected.
        client_privacy: bounds and hides each client's part; None without client-level privacy.
        clips: n_k of each partition where the server knows them without the clients, for shares
            under client-level privacy; None: all clients have the same share.
        weights: that the run starts from, for an algorithm's first state; None: `restore` has one.
        summed: opens the sum of the updates, of which it alone is seen; None: all are seen.

    Raises:
        ConfigError: if a rule cannot be imported, or reads what privacy forbids.
    """

    def __init__(
        self,
        config: Config,
        nodes: Mapping[int, int],
        grid: Grid,
        *,
        client_privacy: ClientPrivacy | None = None,
        clips: Sequence[int] | None = None,
        weights: Weights | None = None,
        summed: SummedUpdates | None = None,
    ) -> None:
        self._config = config
        self._summed = summed
        self._client_privacy = client_privacy
        self._shares = expected_shares(config, clips) if config.samples_candidates else None
        self._clips = clips
        self._nodes = nodes
        self._grid = grid
        self._coordinator = Coordinator(config)
        state = {} if weights is None else self._coordinator.start(weights)
        self._carried = Carried(History.empty(config.data.clients), state)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return copies of all that passes from round to round but for the model itself."""
        return self._carried.state()

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from what `state()` gave.

        Raises:
            RunError: if it is not of this federation.
        """
        self._carried = self._carried.restored(state, self._config)

    def correction(self, partition: int, *, like: Weights) -> Weights | None:
        """Return what a client adds to the gradient of each of its steps; None for nothing.

        Raises:
            RunError: if an algorithm gives something else than numbers for each of `like`.
        """
        return self._coordinator.correction(self._carried.algorithm, partition, like=like)

    @property
    def _counts_the_absent(self) -> bool:
        """Whether who was asked and gave nothing counts as not having moved."""
        return self._client_privacy is not None or self._shares is not None

    @property
    def averages(self) -> bool:
        """Whether a moving average of the global models is kept."""
        return self._config.evaluation.average > 0

    @property
    def average(self) -> Weights | None:
        """Moving average of the global models so far; None where none is kept."""
        return self._carried.average or None

    @property
    def residuals(self) -> Residuals:
        """What simulated clients have left unsent."""
        return self._carried.residuals

    def play(
        self,
        server_round: int,
        answers: Sequence[Answer],
        *,
        asked: Sequence[int],
        before: Weights,
    ) -> GlobalRound:
        """Select, weigh and average `answers`, in partition order, which started from `before`.

        Args:
            server_round: the round.
            answers: that are taken.
            asked: partitions of the candidates, in order.
            before: the global weights.

        Raises:
            RunError: if too few of the selected upload their weights when they are asked for them,
                or a rule returned something it must not.
        """
        carried, reports = self._carried, tuple(answer.report for answer in answers)
        summed = self._summed and self._summed.step(server_round, answers, before)
        readings = self._readings(asked, reports)
        candidates = readings[exchange.ARRAYS]
        decisions = {
            key: self._coordinator.decide(server_round, read, carried.history, carried.algorithm)
            for key, read in readings.items()
        }
        if summed is not None:  # nobody is left out, and all count by what they drew from
            decisions = {key: in_the_sum(one, answers) for key, one in decisions.items()}
        if self._shares is not None:  # all are in the sum, and count as everyone would
            shares = self._shares[list(asked)]
            decisions = {key: as_expected(one, shares) for key, one in decisions.items()}
        models_of = {answer.report.partition: answer.models for answer in answers}
        carried.residuals.take(models_of)
        uploads = Uploads({}, frozenset(), (), 0, 0)
        if self._config.coordination.probe:
            uploads = self._upload(server_round, candidates, models_of, decisions, before)
            models_of = uploads.models
            if self._client_privacy is None:
                decisions = {
                    key: self._coordinator.without(
                        server_round,
                        readings[key],
                        carried.history,
                        carried.algorithm,
                        decision=decision,
                        missing=uploads.missing,
                    )
                    for key, decision in decisions.items()
                }
        models = [models_of.get(candidate.partition, {}) for candidate in candidates]
        steps = {
            key: self._step(
                server_round, key, readings[key], models, decision, before=before, summed=summed
            )
            for key, decision in decisions.items()
            if decision.selected.size or key == exchange.ARRAYS
        }
        step = steps[exchange.ARRAYS]
        lacking = self._coordinator.lacking(decisions[exchange.ARRAYS])
        decisions |= {key: stepped.decision for key, stepped in steps.items()}
        wrong = noted(decisions[exchange.ARRAYS], step.after, lacking)
        after = before
        if not any(note.kind is FaultKind.UNUSABLE for note in wrong):
            after, carried.optimizer, carried.algorithm = step.after, step.optimizer, step.state
        if self.averages:
            decay = self._config.evaluation.average
            carried.average = moved(carried.average, after, decay=decay, server_round=server_round)
        taken = [candidates[position].partition for position in decisions[exchange.ARRAYS].selected]
        carried.history = carried.history.after(
            server_round,
            taken,
            answered=[candidate.partition for candidate in candidates],
            memory=decisions[exchange.ARRAYS].memory,
        )
        there = {report.partition for report in reports} - uploads.missing
        told = {
            key: among(decision, candidates, reports, there) for key, decision in decisions.items()
        }
        shadow, floor = (
            Decided(told[key], steps[key].after if key in steps else None) if key in told else None
            for key in (exchange.SHADOW_ARRAYS, exchange.FLOOR_ARRAYS)
        )
        return GlobalRound(
            number=server_round,
            reports=reports,
            decision=told[exchange.ARRAYS],
            before=before,
            after=after,
            history=carried.history,
            average=self.average,
            shadow=shadow,
            floor=floor,
            bytes_down=uploads.bytes_down,
            bytes_up=uploads.bytes_up + sum(answer.size for answer in answers),
            rejections=(*uploads.rejections, *wrong),
        )

    def _readings(
        self, asked: Sequence[int], reports: Sequence[ClientReport]
    ) -> dict[str, Sequence[ClientReport]]:
        """Return the reports that rules decide on, under the key of the models they speak of.

        Where it must not matter who answers these are what is known of the `asked` without them.
        """
        evaluation = self._config.evaluation
        # one that a client could not give leaves the round without
        shadows = evaluation.shadow and reports and all(report.shadow for report in reports)
        floors = evaluation.floor and reports and all(report.floor for report in reports)
        shadow = {exchange.SHADOW_ARRAYS: ClientReport.as_shadow} if shadows else {}
        floor = {exchange.FLOOR_ARRAYS: ClientReport.as_floor} if floors else {}
        if not self._counts_the_absent:
            unprotected = {**shadow, **floor}.items()
            read = {key: [as_read(report) for report in reports] for key, as_read in unprotected}
            return {exchange.ARRAYS: reports, **read}
        public = [known_beforehand(k, self._clips[k] if self._clips else 1) for k in asked]
        return dict.fromkeys([exchange.ARRAYS, *shadow, *floor], public)

    def _step(
        self,
        server_round: int,
        key: str,
        reports: Sequence[ClientReport],
        models: Sequence[Mapping[str, Weights]],
        decision: Coordination,
        *,
        before: Weights,
        summed: Weights | None = None,
    ) -> _Step:
        """Return the next global weights and what goes on with them, and change nothing.

        Under client-level privacy every client's part of what counts is bounded and in noise. Where
        the sum of updates alone is seen, `summed` is the aggregate.
        """
        if self._coordinator.lacking(decision):
            return _Step(before, self._carried.optimizer, self._carried.algorithm, decision)
        privacy, chosen = self._client_privacy, [models[k] for k in decision.selected]
        unmoved = self._counts_the_absent or summed
        selected = [model.get(key, before) if unmoved else model[key] for model in chosen]
        if summed is not None:
            aggregate = summed
        elif privacy is not None and key == exchange.ARRAYS and decision.weights is not None:
            everyone = decision.weights if self._shares is None else self._shares
            aggregate = privacy.privatise(
                server_round,
                before,
                selected,
                decision.weights,
                largest_share=float(everyone.max()),
            )
        else:
            aggregate = self._coordinator.combine(
                server_round, reports, selected, decision, before=before
            )
        aggregate, state, decision = self._coordinator.step(
            server_round,
            reports,
            selected,
            (decision, self._carried.history, self._carried.algorithm),
            before=before,
            aggregate=aggregate,
        )
        after, optimizer = server_step(
            self._config.coordination,
            self._grid,
            server_round,
            before=before,
            aggregate=aggregate,
            state=self._carried.optimizer,
        )
        return _Step(after, optimizer, state, decision)

    def _upload(
        self,
        server_round: int,
        candidates: Sequence[ClientReport],
        answered: Container[int],
        decisions: Mapping[str, Coordination],
        before: Weights,
    ) -> Uploads:
        """Return the weights of the selected.

        Raises:
            RunError: if too few candidates are left, or none of the selected.
        """
        wanted = {
            key: [
                candidates[position].partition
                for position in decision.selected
                if candidates[position].partition in answered
            ]
            for key, decision in decisions.items()
        }
        uploads = request_uploads(
            self._config, self._grid, server_round, self._nodes, wanted, like=before
        )
        if self._client_privacy is not None:
            return uploads
        usable = len(candidates) - len(uploads.missing)
        require_enough(self._config.coordination, server_round, usable, uploads.rejections)
        if uploads.missing.issuperset(wanted[exchange.ARRAYS]):
            raise RunError(
                f"round {server_round}: none of the {len(wanted[exchange.ARRAYS])} selected gave "
                f"weights that can be taken; {uploads.rejections[0]}"
            )
        return uploads
