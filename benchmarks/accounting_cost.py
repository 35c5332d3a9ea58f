"""What accounting costs: its share of the clients' processor time over a whole run.

    fnl bench accounting-cost [--clients 4] [--set group.key=value ...]

The first `--clients` partitions go through the rounds in which they are asked, with rates released,
once under RDP and once under PRV. All that a ledger does is timed: noise from the budget, the check
before a round, booking, ε after it; and on the server, what a report must have cost. The target is
less than 1 % of the time. The first round of a process computes what the others look up, so the
whole run is the fair unit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import fnl.training.local
from fnl.cli.terminal import Assignments
from fnl.config import Config, Scalar, parse_config, parse_overrides
from fnl.data.federated import open_federation
from fnl.privacy.ledger import Ledger
from fnl.runtime.determinism import one_thread
from fnl.schedule import asked_in
from fnl.snn.network import build_network, initialise
from fnl.training.local import train_round
from fnl.weights import get_weights
from server.replies.vetting import cost_of_this_round

RELEASE: dict[str, Scalar] = {"privacy.rate-release": "gaussian", "privacy.rate-epsilon": 2.0}
CLEAR: dict[str, Scalar] = {
    "privacy.mode": "none",
    "privacy.rate-release": "none",
    "privacy.rate-epsilon": 0.0,
}


class Stopwatch:
    """Processor time in the functions it wraps, once where one calls another."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._inside = False

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, its time added up."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            self._inside, started = True, time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self._inside = False
                self.seconds += time.process_time() - started

        return wrapper


def main(clients: int = 4, assignments: Assignments = None) -> None:
    """Print the share of accounting, by accountant."""
    flat = RELEASE | parse_overrides(assignments or [])
    with one_thread():
        for accountant in ("rdp", "prv"):
            config = parse_config({**flat, "privacy.accountant": accountant})
            total, of_clients, of_server, rounds = measure(config, clients)
            print(
                f"{accountant}: {of_clients / rounds * 1e3:.2f} ms on the client and "
                f"{of_server / rounds * 1e3:.2f} ms on the server of {total / rounds * 1e3:.0f} ms "
                f"a client's round, {(of_clients + of_server) / total:.2%}, over {rounds} of them"
            )


def measure(config: Config, count: int) -> tuple[float, float, float, int]:
    """Return seconds of all rounds, of accounting by clients and by the server, and the count."""
    federation = open_federation(config)
    network = build_network(config.model, federation.inputs, federation.classes)
    initialise(network, config.run.seed)

    train = partial(train_round, federation=federation, weights=get_weights(network))
    # compiles the kernels, and leaves what ledgers look up empty
    clear = parse_config({**config.flat(), **CLEAR})
    train(clear, partition=0, server_round=1, ledger=Ledger())
    watch, server, rounds = Stopwatch(), Stopwatch(), 0
    check = server.timed(cost_of_this_round)
    ledgers = dict.fromkeys(range(count), Ledger())
    with ExitStack() as patches:
        for owner, name in (
            (fnl.training.local, "noise_of"),
            (fnl.training.local, "book_round"),
            (Ledger, "with_entries"),
            (Ledger, "epsilon"),
        ):
            timed = watch.timed(getattr(owner, name))
            patches.enter_context(patch.object(owner, name, timed))
        started = time.process_time()
        for server_round in range(1, config.run.rounds + 1):
            asked = asked_in(config, server_round)
            for partition in set(asked.tolist()) & ledgers.keys():
                known = {"server_round": server_round, "ledger": ledgers[partition]}
                outcome = train(config, partition=partition, **known)
                ledgers[partition] = outcome.ledger
                own = watch.seconds
                check(outcome.report, config.privacy.accountant)
                watch.seconds = own  # the server's ledger is timed by its own watch
                rounds += 1
        return time.process_time() - started, watch.seconds, server.seconds, rounds
