"""The Flower ServerApp: one run from configuration to a finished run directory."""

from __future__ import annotations

import time

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from fnl import exchange
from fnl.config import Config, parse_config
from fnl.data.federated import Federation
from fnl.metrics.sparsity import sparsity
from fnl.runtime.deployment import DEPLOYMENT
from fnl.runtime.determinism import one_thread
from fnl.runtime.engine import engine_name, notify
from fnl.runtime.run_directory import RunDirectory
from fnl.snn.evaluation import Evaluation, evaluate
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.weights import get_weights, set_weights
from server import measurement
from server.devices import DeviceGrid, open_server_data
from server.facts import run_facts
from server.federation_nodes import nodes_by_partition
from server.strategy import RateStrategy

REPLY_TIMEOUT_SECONDS = 24 * 3600.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the configured federation; leaves nothing behind if it cannot start."""
    config = parse_config(context.run_config)
    federation = open_server_data(config, grid)
    deployed = engine_name(grid) == DEPLOYMENT
    nodes = nodes_by_partition(grid, config.data.clients, devices=deployed)
    carrier = DeviceGrid(grid, nodes, config.run.results_dir) if deployed else grid
    directory = RunDirectory.create(
        config, engine=engine_name(grid), facts=run_facts(config, federation)
    )
    notify(grid, f"run directory {directory.path}")
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
    initial = get_weights(network)
    strategy = RateStrategy(config, nodes)
    recorder = _Recorder(config, federation, network, strategy, directory)
    result = strategy.start(
        grid=grid,
        initial_arrays=exchange.to_arrays(initial),
        num_rounds=config.run.rounds,
        timeout=REPLY_TIMEOUT_SECONDS,
        train_config=ConfigRecord(),
        evaluate_fn=recorder,
    )
    directory.finish(exchange.from_arrays(result.arrays))


class _Recorder:
    """Evaluates the global model after each round and writes the round down.

    Flower calls it with the round's number and the global arrays, before the first round with 0.
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
        self._epsilons: dict[int, float] = {}
        self._round_started = time.perf_counter()

    def __call__(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
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
                if report.epsilon is not None:
                    self._epsilons[report.partition] = report.epsilon
            round_row |= measurement.coordination_values(outcome)
            client_rows = measurement.client_rows(server_round, outcome)
            layer_rows += measurement.client_layer_rows(server_round, outcome)
        if self._config.is_private:
            clients = self._config.data.clients
            round_row |= measurement.epsilon_values(self._epsilons, clients)
        now = time.perf_counter()
        round_row["seconds"] = now - self._round_started
        self._round_started = now
        self._directory.add(round_row, client_rows, layer_rows)
        every = self._config.run.checkpoint_every
        if every and server_round and server_round % every == 0:
            self._directory.save_checkpoint(server_round, exchange.from_arrays(arrays))
        if evaluation is None:
            return None
        return MetricRecord({"accuracy": evaluation.accuracy, "loss": evaluation.loss})

    def _evaluate(self, server_round: int, arrays: ArrayRecord) -> Evaluation | None:
        due = server_round % self._config.evaluation.every == 0
        if not due and server_round != self._config.run.rounds:
            return None
        if not len(self._labels):  # the server of a deployment may have no clips
            return None
        set_weights(self._network, exchange.from_arrays(arrays))
        return evaluate(self._network, self._features, self._labels, self._classes)
