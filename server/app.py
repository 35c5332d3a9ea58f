"""The Flower ServerApp: one run from configuration to a finished run directory."""

from __future__ import annotations

from functools import partial

from flwr.app import ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

from fnl.config import Config, parse_config
from fnl.data.federated import Federation
from fnl.runtime.deployment import DEPLOYMENT
from fnl.runtime.determinism import one_thread
from fnl.runtime.engine import SIMULATIONS, clients_apart, engine_name, notify
from fnl.runtime.event_files import check_tensorboard
from fnl.runtime.run_directory import RunDirectory
from fnl.runtime.run_place import check_name
from fnl.snn.network import build_network, initialise
from fnl.weights import get_weights
from fnl.wire import exchange
from server.coordination import Coordinator
from server.devices import DeviceGrid, open_server_data
from server.fault_tolerant_strategy import GuardedStrategy
from server.federation_nodes import nodes_by_partition
from server.record.guarantee import privacy_warnings, run_facts
from server.record.recorder import Recorder
from server.resumption import take_over
from server.spending import Spending
from server.strategy import RateStrategy

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
    recorder = Recorder(
        config,
        federation,
        network,
        strategy,
        directory,
        guarded=guarded,
        notify=partial(notify, grid),
        beside=clients_apart(grid),
    )
    if done < config.run.rounds:
        with recorder:
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
