"""Clients trained as one batch against the same one at a time: seconds of a round, and the ratio.

    fnl bench batched [--clients 4 --clients 12] [--repeats 5] [--device cpu] [--set ...]

Both ways compute the same rounds of the same clients on made-up clips, alternating, in one process
and on one thread; medians are given. The largest distance between the two ways' updates, relative
to the update, is shown beside them: it is rounding, and spikes that rounding moved.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from benchmarks.table import show
from fnl.cli.terminal import Assignments, Json, out
from fnl.config import Config, parse_config, parse_overrides
from fnl.device import chosen_device, device_in_words
from fnl.doctor import CLASSES, distance, made_clients, one_by_one
from fnl.errors import ConfigError
from fnl.runtime.determinism import one_thread
from fnl.runtime.memory import keep_freed_memory
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.training.batched.network import why_not
from fnl.training.batched.training import train_together
from fnl.weights import Weights, get_weights


@dataclass(frozen=True)
class Comparison:
    """One case.

    Attributes:
        case: what is trained, in words.
        clients: K.
        one_by_one: seconds of a round of K clients, one at a time.
        together: as one batch.
        ratio: how many times faster the batch is.
        distance: the largest of ‖Δ_batch − Δ_alone‖ / ‖Δ_alone‖ over clients.
    """

    case: str
    clients: int
    one_by_one: float
    together: float
    ratio: float
    distance: float


CASES = {
    "default network, batches of 128": {},
    "default network, batches of 32": {"training.batch-size": 32},
    "default network, batches of 8": {"training.batch-size": 8},
    "small network 32-32, batches of 16": {"model.hidden": "32,32", "training.batch-size": 16},
    "recurrent, batches of 32": {"model.network": "recurrent", "training.batch-size": 32},
    "temporal 64-64-64, batches of 32": {
        "model.network": "temporal-conv", "model.hidden": "64,64,64", "training.batch-size": 32,
    },
    "default network, batches of 32, no privacy": {
        "privacy.mode": "none", "training.batch-size": 32,
    },
}  # fmt: skip


def main(
    assignments: Assignments = None,
    clients: Annotated[list[int] | None, typer.Option(min=1, help="Default: 4 and 12.")] = None,
    clips: Annotated[int, typer.Option(min=1, help="Of a client, more or less.")] = 200,
    repeats: Annotated[int, typer.Option(min=1, help="Of each way.")] = 5,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Measure what training clients as one batch gains or costs."""
    keep_freed_memory()  # as processes of clients do
    overrides = {"training.local-epochs": 1.0, **parse_overrides(assignments or [])}
    cases = {"as configured": {}} if assignments else CASES
    found = []
    for name, changes in cases.items():
        keys = {"privacy.mode": "record", "run.device": device, **changes, **overrides}
        config = parse_config(keys)
        for count in clients or [4, 12]:
            with one_thread():
                found.append(compare(name, config, count, clips, repeats))
    columns = {
        "case": "{0.case}", "clients": "{0.clients}", "one by one s": "{0.one_by_one:.3f}",
        "together s": "{0.together:.3f}", "ratio": "{0.ratio:.2f}", "distance": "{0.distance:.1e}",
    }  # fmt: skip
    show(found, columns, as_json=as_json)
    if not as_json:
        out.print(f"on {device_in_words(parse_config({'run.device': device}))}, one thread")


def compare(name: str, config: Config, count: int, clips: int, repeats: int) -> Comparison:
    """Time both ways of training `count` clients for a round.

    Raises:
        ConfigError: if the network does not run for several clients.
    """
    network = build_network(config.model, config.data.mel_bins, CLASSES)
    initialise(network, 0)
    start = get_weights(network)
    network.to(chosen_device(config))
    if (reason := why_not(network)) or not isinstance(network, SpikingNetwork):
        raise ConfigError(f"{reason} does not run for several clients")
    ways: tuple[Callable[[], list[Weights]], ...] = (
        lambda: one_by_one(network, made_clients(config, start, count, clips)),
        lambda: [w for w, _ in train_together(network, made_clients(config, start, count, clips))],
    )
    seconds: tuple[list[float], ...] = ([], [])
    updates: list[list[Weights]] = [way() for way in ways]  # compiles, and warms caches
    for _ in range(repeats):
        for way, times in zip(ways, seconds, strict=True):
            started = time.perf_counter()
            way()
            times.append(time.perf_counter() - started)
    alone, together = map(statistics.median, seconds)
    furthest = max(distance(start, *pair) for pair in zip(*updates, strict=True))
    return Comparison(name, count, alone, together, alone / together, furthest)
