"""What a cell takes, found by running its first rounds away from its directory."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from statistics import mean

from flwr.app import Message

from experiments.grid.estimate import Cost, work
from experiments.grid.ray_session import placement
from fnl.config import Config, Scalar, parse_config
from fnl.metrics.memory import peak_memory_bytes
from fnl.runtime.events import Event, RoundDone, RoundStarted
from fnl.runtime.in_process import run_in_process
from fnl.runtime.worker_pool import birth

ROUNDS = 2
SECONDS = 5.0
"""That a probe may train, beyond its first two replies."""


class _EnoughError(Exception):
    """Raised in a run that is not to go on."""


@dataclass
class _Watch:
    """Times a run from outside: what it says, and its clients' replies.

    Attributes:
        most: replies of clients after which the run ends.
        seconds: within which it ends, once two have replied.
        began: when the first round did.
        last: when a client replied, or a round began or ended.
        first: seconds of the first evaluation, before any round.
        clients: seconds of each reply.
        rounds: seconds between the last reply of a round and its end.
    """

    most: float = float("inf")
    seconds: float = float("inf")
    began: float = 0.0
    last: float = 0.0
    first: float = 0.0
    clients: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)

    def on_event(self, event: Event) -> None:
        """Take note of where the run is."""
        now = time.perf_counter()
        if isinstance(event, RoundStarted):
            self.began = self.began or now
        elif isinstance(event, RoundDone) and self.began:
            self.rounds.append(now - self.last)
        elif isinstance(event, RoundDone):
            self.first = now - self.last
        self.last = now

    def on_reply(self, reply: Message) -> None:
        """Take note of a client's reply."""
        if reply.metadata.message_type != "train":
            return
        now = time.perf_counter()
        self.clients.append(now - self.last)
        self.last = now
        late = now - self.began > self.seconds and len(self.clients) >= 2
        if late or len(self.clients) >= self.most:
            raise _EnoughError


def probe(flat: Mapping[str, Scalar], seconds: float) -> Cost:
    """Run two rounds of a cell and time them; after `seconds` and two replies that is enough.

    A process' first client also imports, compiles kernels and opens the data. That is done once by
    a process and not by every cell: it is done before anything is timed.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as results:
        short = {
            "run.name": "",
            "run.results-dir": results,
            "run.rounds": min(ROUNDS, int(flat["run.rounds"])),
            "run.checkpoint-every": 0,
            "evaluation.every": 1,
        }
        config = parse_config({**flat, **short})
        _run(config, _Watch(most=1))
        watch = _Watch(seconds=seconds)
        started = time.perf_counter()
        _run(config, watch)
        ended = time.perf_counter()
    return Cost(
        once_seconds=watch.began - started + ended - watch.last,
        client_seconds=mean(watch.clients) / work(config),
        server_seconds=mean(watch.rounds or [watch.first]),
        peak_bytes=peak_memory_bytes(),
    )


def probes_here(configs: Sequence[Config], processes: int) -> Iterator[tuple[Config, Cost]]:
    """Yield what cells cost by probes in so many processes of this machine, without Ray.

    One that fails is left out: the cell itself will say what is wrong.
    """
    with birth():
        pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
        shots = [(config, pool.submit(probe, config.flat(), SECONDS)) for config in configs]
    try:
        for config, shot in shots:
            with suppress(Exception):
                yield config, shot.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def probes_on_ray(configs: Sequence[Config], cores: int) -> Iterator[tuple[Config, Cost]]:
    """Yield what cells cost by probes as tasks of Ray, as `probes_here`."""
    import ray  # noqa: PLC0415 only within a session

    task = ray.remote(probe)
    shots = [
        (config, task.options(**placement(config, cores)).remote(config.flat(), SECONDS))
        for config in configs
    ]
    for config, shot in shots:
        with suppress(Exception):
            yield config, ray.get(shot)


def _run(config: Config, watch: _Watch) -> None:
    with suppress(_EnoughError):
        run_in_process(config, on_reply=watch.on_reply, notify=watch.on_event)
