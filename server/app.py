"""The Flower ServerApp: one run from configuration to a finished run directory."""

from __future__ import annotations

from functools import partial

from flwr.app import ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

from fnl.audit.probe import refuse_own_modules_that_mix
from fnl.config import Config, parse_config
from fnl.data.federated import Federation
from fnl.runtime.callbacks import check_callbacks
from fnl.runtime.deployment import DEPLOYMENT
from fnl.runtime.determinism import one_thread
from fnl.runtime.engine import SIMULATIONS, clients_apart, engine_name, notify
from fnl.runtime.events import RunFinished, RunStarted, RunWarning
from fnl.runtime.releases import Releases, What
from fnl.runtime.run_directory import RunDirectory
from fnl.runtime.run_place import check_name
from fnl.runtime.run_record import INTERRUPTED
from fnl.snn.network import build_network, initialise
from fnl.weights import get_weights
from fnl.wire import exchange
from server.client_privacy import ClientPrivacy
from server.coordination import Coordinator
from server.devices import DeviceGrid, open_server_data
from server.federation_nodes import nodes_by_partition
from server.record.guarantee import privacy_warnings, run_metadata, spent_curve
from server.record.recorder import Recorder
from server.resumption import take_over
from server.rounds import Rounds
from server.spending import Spending
from server.strategy import RateStrategy

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the configured federation, or go on with it; leaves nothing if it cannot start."""
    config = parse_config(context.run_config)
    check_name(config)
    check_callbacks(config)
    Coordinator(config)  # a rule of the user's own that is not there is seen before any work
    federation = open_server_data(config, grid)
    deployed = engine_name(grid) == DEPLOYMENT
    if not deployed:  # a device runs no code of the user's own
        with one_thread():
            refuse_own_modules_that_mix(config, federation)
    nodes = nodes_by_partition(grid, config.data.clients, devices=deployed)
    carrier = DeviceGrid(grid, nodes, config.run.results_dir) if deployed else grid
    directory = RunDirectory.open(
        config, engine=engine_name(grid), metadata=run_metadata(config, federation)
    )
    notify(grid, RunStarted(directory.path))
    for note in directory.notes:
        notify(grid, note)
    for warning in privacy_warnings(config, federation):
        notify(grid, RunWarning(warning))
    try:
        with one_thread():
            _run(config, federation, nodes, carrier, directory)
    except KeyboardInterrupt:
        directory.fail("interrupted", status=INTERRUPTED)
        raise
    except BaseException as error:
        directory.fail(f"{type(error).__name__}: {error}")
        raise
    notify(grid, RunFinished(directory.path))


def _run(
    config: Config,
    federation: Federation,
    nodes: dict[int, int],
    grid: Grid,
    directory: RunDirectory,
) -> None:
    network = build_network(config.model, federation.inputs, federation.classes)
    initialise(network, config.run.seed)
    simulated, releases = engine_name(grid) in SIMULATIONS, Releases(directory.path)
    before = directory.resumed_from
    done = before.server_round if before is not None else 0
    private = ClientPrivacy(config, releases, done) if config.is_client_private else None
    rounds = Rounds(
        config,
        nodes,
        grid,
        client_privacy=private,
        clips=_clips(config, federation) if simulated else None,
    )
    spending, weights = Spending(config, devices=not simulated), get_weights(network)
    if before is not None:
        weights = take_over(before, network, rounds, spending)
    spending.repeat(r.server_round for r in releases.of(What.ASKED) if r.server_round > done)
    recorder = Recorder(
        config,
        federation,
        network,
        directory,
        rounds=rounds,
        spending=spending,
        notify=partial(notify, grid),
        beside=clients_apart(grid),
    )
    strategy = RateStrategy(
        config,
        rounds,
        spending,
        releases,
        client_privacy=private,
        nodes=nodes,
        layers=len(network.neuron),
        classes=federation.classes,
        done=done,
        simulated=simulated,
        on_round=recorder,
    )
    if done < config.run.rounds:
        with recorder:
            if not done:
                recorder.start(weights)
            result = strategy.start(
                grid=grid,
                initial_arrays=exchange.to_arrays(weights),
                num_rounds=config.run.rounds - done,
                timeout=config.run.reply_timeout,
                train_config=ConfigRecord(),
            )
        weights = exchange.from_arrays(result.arrays)
    directory.note(privacy_spent=spent_curve(config, directory.table("clients")))
    directory.finish(weights)


def _clips(config: Config, federation: Federation) -> list[int]:
    """Return the number of clips of each client: public."""
    partitioning = federation.partitioning
    return [len(partitioning.rows(partition)) for partition in range(config.data.clients)]
