"""The Flower ServerApp: one run from configuration to a finished run directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from fnl import exchange
from fnl.config import Config, parse_config
from fnl.data.federated import Federation
from fnl.metrics.sparsity import sparsity
from fnl.runtime.deployment import DEPLOYMENT
from fnl.runtime.determinism import one_thread
from fnl.runtime.engine import SIMULATIONS, engine_name, notify
from fnl.runtime.event_files import check_tensorboard
from fnl.runtime.run_directory import RunDirectory, RunState
from fnl.runtime.run_place import check_name
from fnl.snn.evaluation import Evaluation, evaluate
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.weights import get_weights, set_weights
from server import comparison, measurement
from server.client_privacy import epsilon_client
from server.coordination import Coordinator, RoundOutcome
from server.devices import DeviceGrid, open_server_data
from server.facts import privacy_warnings, run_facts
from server.faults import fault_rows_of, taken_values
from server.federation_nodes import nodes_by_partition
from server.guarded_strategy import GuardedStrategy
from server.history import History
from server.resumption import take_over
from server.spending import Spending
from server.strategy import RateStrategy

_TOLD = 3
"""Rejections of a round that its user is told of."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the configured federation, or go on with it; leaves nothing if it cannot start."""
    config = parse_config(context.run_config)
    check_name(config)
    if config.run.tensorboard:
        check_tensorboard()
    Coordinator(config)  # a rule of the user's own that is not there is seen before any work
    federation = open_server_data(config, grid)
    deployed = engine_name(grid) == DEPLOYMENT
    nodes = nodes_by_partition(grid, config.data.clients, devices=deployed)
    carrier = DeviceGrid(grid, nodes, config.run.results_dir) if deployed else grid
    directory = RunDirectory.open(
        config, engine=engine_name(grid), facts=run_facts(config, federation)
    )
    notify(grid, f"run directory {directory.path}")
    for note in directory.notes:
        notify(grid, note)
    for warning in privacy_warnings(config, federation):
        notify(grid, f"warning: {warning}")
    try:
        with one_thread():
            _run(config, federation, nodes, carrier, directory)
    except BaseException as error:
        directory.fail(f"{type(error).__name__}: {error}")
        raise
    notify(grid, f"finished: {directory.path}")


def _run(
    config: Config,
    federation: Federation,
    nodes: dict[int, int],
    grid: Grid,
    directory: RunDirectory,
) -> None:
    network = build_network(config.model, federation.inputs, federation.classes)
    initialise(network, config.run.seed)
    strategy = RateStrategy(config, nodes)
    spending = Spending(config, devices=engine_name(grid) not in SIMULATIONS)
    weights, done = get_weights(network), 0
    if (before := directory.resumed_from) is not None:
        weights, done = take_over(before, network, strategy, spending), before.server_round
    guarded = GuardedStrategy(
        strategy,
        config,
        done=done,
        nodes=nodes,
        layers=len(network.neuron),
        classes=federation.classes,
        spending=spending,
        simulated=engine_name(grid) in SIMULATIONS,
    )
    recorder = _Recorder(
        config,
        federation,
        network,
        strategy,
        directory,
        guarded=guarded,
        notify=partial(notify, grid),
    )
    if done < config.run.rounds:
        result = guarded.start(
            grid=grid,
            initial_arrays=exchange.to_arrays(weights),
            num_rounds=config.run.rounds - done,
            timeout=config.run.reply_timeout,
            train_config=ConfigRecord(),
            evaluate_fn=recorder,
        )
        weights = exchange.from_arrays(result.arrays)
    directory.finish(weights)


class _Recorder:
    """Evaluates the global model after each round and writes the round down.

    Flower calls it with the round's number and the global arrays, before the first round with 0;
    of a resumed run it counts from where the run goes on.
    """

    def __init__(
        self,
        config: Config,
        federation: Federation,
        network: SpikingNetwork,
        strategy: RateStrategy,
        directory: RunDirectory,
        *,
        guarded: GuardedStrategy,
        notify: Callable[[str], None],
    ) -> None:
        self._guarded = guarded
        self._notify = notify
        self._spending = guarded.spending
        self._done = guarded.done
        self._config = config
        self._network = network
        self._strategy = strategy
        self._directory = directory
        self._classes = federation.classes
        self._features, self._labels = federation.split_clips(config.evaluation.split)
        self._history = History(config.data.clients)
        self._history.replay(directory.table("clients").iter_rows(named=True))
        self._round_started = time.perf_counter()

    def __call__(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Measure and write down one round; the round that a run resumes from is there already."""
        if self._done and server_round == 0:
            return None
        server_round += self._done
        outcome = self._strategy.outcome
        round_row: measurement.Row = {"round": server_round}
        client_rows: list[measurement.Row] = []
        layer_rows: list[measurement.Row] = []
        fault_rows: list[measurement.Row] = []
        evaluation = self._evaluate(server_round, arrays)
        if evaluation is not None:
            cost = sparsity(self._network, evaluation)
            round_row |= measurement.evaluation_values(evaluation, cost)
            round_row |= measurement.memory_values(self._network, evaluation)
            plain = self._evaluate_shadow(outcome)
            if plain is not None:
                round_row |= comparison.global_shift_values(evaluation, plain)
            layer_rows += measurement.global_layer_rows(server_round, evaluation, plain)
        if outcome is not None:
            self._spending.answered(server_round, outcome.reports)
            reported = {report.partition for report in outcome.reports}
            fault_rows = fault_rows_of(
                server_round, self._guarded.rejections, self._spending, reported
            )
            self._tell_of_rejections(server_round)
            round_row |= taken_values(outcome, self._guarded.rejections)
            round_row |= measurement.coordination_values(outcome)
            round_row |= comparison.history_values(outcome, self._history)
            self._directory.note(peak_memory_bytes=measurement.peak_memory(outcome))
            client_rows = measurement.client_rows(server_round, outcome)
            layer_rows += measurement.client_layer_rows(server_round, outcome)
        if self._config.is_private:
            clients = self._config.data.clients
            round_row |= measurement.epsilon_values(self._spending.epsilons, clients)
        if self._config.is_client_private:
            round_row["epsilon_client"] = epsilon_client(self._config, server_round)
        now = time.perf_counter()
        round_row["seconds"] = now - self._round_started
        self._round_started = now
        self._directory.add(round_row, client_rows, layer_rows, fault_rows)
        every = self._config.run.checkpoint_every
        self._directory.round_done(
            RunState(
                server_round,
                exchange.from_arrays(arrays),
                {name: value.copy() for name, value in self._strategy.state().items()},
                self._spending.state(),
            ),
            save=every > 0 and server_round > 0 and server_round % every == 0,
        )
        if evaluation is None:
            return None
        return MetricRecord({"accuracy": evaluation.accuracy, "loss": evaluation.loss})

    def _tell_of_rejections(self, server_round: int) -> None:
        """Name the first replies that were not taken; all of them are in `faults.parquet`."""
        rejections = self._guarded.rejections
        for rejection in rejections[:_TOLD]:
            self._notify(f"warning: round {server_round}, {rejection}")
        if len(rejections) > _TOLD:
            self._notify(f"warning: round {server_round}, {len(rejections) - _TOLD} more rejected")

    def _evaluate(self, server_round: int, arrays: ArrayRecord) -> Evaluation | None:
        due = server_round % self._config.evaluation.every == 0
        if not due and server_round != self._config.run.rounds:
            return None
        if not len(self._labels):  # the server of a deployment may have no clips
            return None
        set_weights(self._network, exchange.from_arrays(arrays))
        return evaluate(self._network, self._features, self._labels, self._classes)

    def _evaluate_shadow(self, outcome: RoundOutcome | None) -> Evaluation | None:
        """Evaluate the model that the round would have ended with without privacy."""
        if outcome is None or outcome.shadow_after is None:
            return None
        set_weights(self._network, outcome.shadow_after)
        return evaluate(self._network, self._features, self._labels, self._classes)
