"""The Flower ServerApp: one run from configuration to a finished run directory."""

from __future__ import annotations

from functools import partial

from flwr.app import ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

from fnl.audit.own_modules import check_own_modules, layers_of
from fnl.config import Config, parse_config
from fnl.data.federated import Federation, few_clips_warnings
from fnl.device import chosen_device, device_in_words
from fnl.interchange.pretrained import metadata_of
from fnl.runtime.callbacks import check_callbacks
from fnl.runtime.deployment import DEPLOYMENT
from fnl.runtime.determinism import one_thread
from fnl.runtime.engine import clients_apart, engine_name, notify
from fnl.runtime.events import RunFinished, RunNote, RunStarted, RunWarning
from fnl.runtime.releases import Releases, What
from fnl.runtime.run_directory import RunDirectory
from fnl.runtime.run_place import check_name
from fnl.runtime.run_record import INTERRUPTED
from fnl.training.shared_noise import shared_sum_of
from fnl.training.start import start_network, start_of, start_warnings, whole_weights
from fnl.training.units import unit_counts
from fnl.weights import get_weights
from fnl.wire import exchange
from server.client_privacy import ClientPrivacy
from server.coordination import Coordinator, check_rates
from server.devices import SeenLedgers, open_server_data
from server.federation_nodes import nodes_by_partition
from server.record.guarantee import (
    guarantee_in_words,
    privacy_warnings,
    run_metadata,
    spent_curve,
)
from server.record.origin import origin_of
from server.record.recorder import Recorder
from server.replies.vetting import Shape
from server.resumption import take_over
from server.rounds import Rounds
from server.shared_noise import SummedUpdates
from server.spending import Spending
from server.strategy import RateStrategy
from server.trial import try_own_rules

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the configured federation, or go on with it; leaves nothing if it cannot start."""
    config = parse_config(context.run_config)
    check_name(config)
    check_callbacks(config)
    device = device_in_words(config)  # a GPU that is not there is seen before any clip
    Coordinator(config)  # a rule of the user's own that is not there is seen before any work
    federation = open_server_data(config, grid)
    deployed = engine_name(grid) == DEPLOYMENT
    with one_thread():
        layers = layers_of(config, federation, here=not deployed)
        check_rates(config, layers)
        if not deployed:  # a device runs no code of the user's own
            check_own_modules(config, federation)
    network = start_network(config, federation)  # what does not fit is seen before any work
    counts = None if deployed else unit_counts(config, federation)
    shape = Shape(len(layers), federation.classes, counts)
    with one_thread():
        try_own_rules(config, shape, get_weights(network))
    nodes = nodes_by_partition(grid, config.data.clients, devices=deployed)
    partition_of = {node: partition for partition, node in nodes.items()}
    devices = SeenLedgers(partition_of, config.run.results_dir) if deployed else None
    directory = RunDirectory.open(
        config,
        engine=engine_name(grid),
        metadata={**run_metadata(config, federation), "layers": layers, "device": device},
    )
    try:  # from here on whatever ends it is in its record
        notify(grid, RunStarted(directory.path))
        if config.run.device == "auto":
            notify(grid, RunNote(f"run.device = auto takes {device}"))
        for note in directory.notes:
            notify(grid, note)
        warnings = [*privacy_warnings(config, federation), *start_warnings(config)]
        for warning in warnings + few_clips_warnings(federation.store, config.evaluation.split):
            notify(grid, RunWarning(warning))
        with one_thread():
            _run(
                config,
                federation,
                nodes,
                grid,
                directory,
                shape=shape,
                devices=devices,
            )
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
    *,
    shape: Shape,
    devices: SeenLedgers | None,
) -> None:
    network = start_network(config, federation).to(chosen_device(config))
    releases = Releases(directory.path)
    before = directory.resumed_from
    done = before.server_round if before is not None else 0
    private = ClientPrivacy(config, releases, done) if config.is_client_private else None
    if private is not None:  # repeated releases may have raised it
        directory.note(client_noise_multiplier=private.noise_multiplier)
    spending, weights = Spending(config, devices=devices is not None), get_weights(network)
    numbers = sum(value.size for value in weights.values())
    shared = shared_sum_of(config, numbers) if config.shares_noise else None
    summed = SummedUpdates(config, shared, releases) if shared is not None else None
    rounds = Rounds(
        config,
        nodes,
        grid,
        client_privacy=private,
        clips=shape.clips,
        weights=weights,
        summed=summed,
    )
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
    initial = start_of(config, federation).origin
    strategy = RateStrategy(
        config,
        rounds,
        spending,
        releases,
        client_privacy=private,
        nodes=nodes,
        shape=shape,
        done=done,
        devices=devices,
        initial=initial.sha256 if initial is not None else "",
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
    kept = whole_weights(config, federation, rounds.average or weights)
    origin = origin_of(config, federation, guarantee_in_words(config), directory.table("rounds"))
    directory.finish(kept, metadata_of(kept, origin))
