"""The Flower ServerApp: one run from configuration to a finished run directory."""

from __future__ import annotations

import time

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from fnl import exchange
from fnl.config import Config, parse_config
from fnl.data.federated import Federation, open_federation
from fnl.metrics.sparsity import sparsity
from fnl.runtime.determinism import one_thread
from fnl.runtime.engine import SIMULATIONS, engine_name, notify
from fnl.runtime.run_directory import RunDirectory, RunState
from fnl.runtime.run_place import check_name
from fnl.snn.evaluation import Evaluation, evaluate
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.weights import get_weights, set_weights
from server import measurement
from server.facts import run_facts
from server.federation_nodes import nodes_by_partition
from server.resumption import ResumedStrategy
from server.spending import Spending
from server.strategy import RateStrategy

REPLY_TIMEOUT_SECONDS = 24 * 3600.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the configured federation, or go on with it; leaves nothing if it cannot start."""
    config = parse_config(context.run_config)
    check_name(config)
    federation = open_federation(config)
    nodes = nodes_by_partition(grid, config.data.clients)
    directory = RunDirectory.open(
        config, engine=engine_name(grid), facts=run_facts(config, federation)
    )
    notify(grid, f"run directory {directory.path}")
    for note in directory.notes:
        notify(grid, note)
    try:
        with one_thread():
            _run(config, federation, nodes, grid, directory)
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
    recorder = _Recorder(config, federation, network, strategy, directory)
    weights, done = get_weights(network), 0
    if (before := directory.resumed_from) is not None:
        weights, done = before.weights, before.server_round
        strategy.restore(before.strategy)
        recorder.restore(before)
    if done < config.run.rounds:
        simulated = engine_name(grid) in SIMULATIONS
        result = ResumedStrategy(
            strategy,
            done=done,
            spending=recorder.spending if simulated else None,
            partition_of={node: partition for partition, node in nodes.items()},
        ).start(
            grid=grid,
            initial_arrays=exchange.to_arrays(weights),
            num_rounds=config.run.rounds - done,
            timeout=REPLY_TIMEOUT_SECONDS,
            train_config=ConfigRecord(),
            evaluate_fn=recorder,
        )
        weights = exchange.from_arrays(result.arrays)
    directory.finish(weights)


class _Recorder:
    """Evaluates the global model after each round and writes the round down.

    Flower calls it with the round's number and the global arrays, before the first round with 0;
    of a resumed run it counts from where the run goes on.

    Attributes:
        spending: what the server knows of the clients' budgets.
    """

    def __init__(
        self,
        config: Config,
        federation: Federation,
        network: SpikingNetwork,
        strategy: RateStrategy,
        directory: RunDirectory,
    ) -> None:
        self._config = config
        self._network = network
        self._strategy = strategy
        self._directory = directory
        self._classes = federation.classes
        self._features, self._labels = federation.split_clips(config.evaluation.split)
        self.spending = Spending()
        self._done: int | None = None
        self._round_started = time.perf_counter()

    def restore(self, state: RunState) -> None:
        """Go on from a checkpoint."""
        self._done = state.server_round
        self.spending.restore(state.server)

    def __call__(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Measure and write down one round; the round that a run resumes from is there already."""
        if self._done is not None:
            if server_round == 0:
                return None
            server_round += self._done
        outcome = self._strategy.outcome
        round_row: measurement.Row = {"round": server_round}
        client_rows: list[measurement.Row] = []
        layer_rows: list[measurement.Row] = []
        evaluation = self._evaluate(server_round, arrays)
        if evaluation is not None:
            cost = sparsity(self._network, evaluation)
            round_row |= measurement.evaluation_values(evaluation, cost)
            layer_rows += measurement.global_layer_rows(server_round, evaluation)
        if outcome is not None:
            for report in outcome.reports:
                self.spending.set_epsilon(report.partition, report.epsilon)
            self.spending.book(server_round, (report.partition for report in outcome.reports))
            round_row |= measurement.coordination_values(outcome)
            client_rows = measurement.client_rows(server_round, outcome)
            layer_rows += measurement.client_layer_rows(server_round, outcome)
        if self._config.is_private:
            clients = self._config.data.clients
            round_row |= measurement.epsilon_values(self.spending.epsilons, clients)
        now = time.perf_counter()
        round_row["seconds"] = now - self._round_started
        self._round_started = now
        self._directory.add(round_row, client_rows, layer_rows)
        every = self._config.run.checkpoint_every
        self._directory.round_done(
            RunState(
                server_round,
                exchange.from_arrays(arrays),
                {name: value.copy() for name, value in self._strategy.state().items()},
                self.spending.state(),
            ),
            save=every > 0 and server_round > 0 and server_round % every == 0,
        )
        if evaluation is None:
            return None
        return MetricRecord({"accuracy": evaluation.accuracy, "loss": evaluation.loss})

    def _evaluate(self, server_round: int, arrays: ArrayRecord) -> Evaluation | None:
        due = server_round % self._config.evaluation.every == 0
        if not due and server_round != self._config.run.rounds:
            return None
        set_weights(self._network, exchange.from_arrays(arrays))
        return evaluate(self._network, self._features, self._labels, self._classes)
