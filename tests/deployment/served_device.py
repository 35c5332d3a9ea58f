"""A device behind its ClientApp, with what a server would remember of it between requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict

import clients.app
import fnl
from fnl.config import parse_config
from fnl.privacy.ledger import Ledger
from fnl.snn.network import build_network, initialise
from fnl.weights import get_weights
from fnl.wire import exchange
from fnl.wire.report import ClientReport
from tests.runs import dotted

RUN = {
    "data.corpus": "device",
    "data.words": "yes,no,up",
    "data.clients": 2,
    "model.hidden": "8",
    "training.batch-size": 4,
    "coordination.candidates": 2,
    "coordination.selected": 2,
    "run.rounds": 3,
    "privacy.secure-noise": True,
    # ledgers are read as Opacus' Rényi accountant counts them, steps alone
    "privacy.accountant": "rdp",
    "privacy.rate-release": "none",
}
ACCOUNTED = {
    "run__strict_privacy": True,
    "privacy__rate_release": "gaussian",
    "privacy__rate_epsilon": 1.0,
}
"""Changes with which a device that has a budget takes part."""


class Served:
    """A device and what a server knows of it; every request comes to a new process of the device.

    Attributes:
        reports: what the device reported, round by round.
    """

    def __init__(self, clips: Path, state: Path, **node: object) -> None:
        self.reports: list[ClientReport] = []
        self._node = {
            "data-root": str(clips / "data-1"),
            "state-dir": str(state),
            "partition-id": 1,
            **node,
        }
        self._state = state
        self._known = {"device-id": "", "releases": 0, "ledger-tip": ""}

    def ask(
        self, server_round: int, *, run: int = 1, correction: float = 0.0, **changes: object
    ) -> RecordDict:
        """Return what the device answers in a round of a run; it may have to correct gradients."""
        config = parse_config(RUN | dotted(changes))
        network = build_network(config.model, config.data.mel_bins, 3)
        initialise(network, 0)
        content = RecordDict(
            {
                exchange.ARRAYS: exchange.to_arrays(get_weights(network)),
                exchange.CONFIG: ConfigRecord({exchange.ROUND: server_round}),
                "device": ConfigRecord({"fnl-version": fnl.__version__, **self._known}),
            }
        )
        if correction:
            every = {name: v * 0 + correction for name, v in get_weights(network).items()}
            content[exchange.CORRECTION] = exchange.to_arrays(every)
        message = Message(content, dst_node_id=2, message_type=MessageType.TRAIN)
        message.metadata.__dict__["_message_id"] = "1"
        message.metadata.__dict__["_run_id"] = run
        flat = RUN | dotted(changes)
        context = Context(
            run_id=run, node_id=2, node_config=self._node, state=RecordDict(), run_config=flat
        )
        reply = clients.app.app(message, context).content
        if "device" in reply:
            self._known = dict(reply["device"])
            self.reports.append(ClientReport.from_record(reply[exchange.METRICS]))
        return reply

    def run(self, *, run: int, rounds: int = 3, **changes: object) -> list[ClientReport]:
        """Return what the device reports of all rounds of a run."""
        for server_round in range(1, rounds + 1):
            assert exchange.METRICS in self.ask(server_round, run=run, **changes)
        return self.reports[-rounds:]

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self._state / "ledger" / "ledger.json"

    @property
    def terms(self) -> dict[str, Any]:
        """On what terms the device's budget is counted, as on its disk."""
        return json.loads(self.path.read_text())["terms"]

    @property
    def ledger(self) -> Ledger:
        """What is on the device's disk."""
        ledger = Ledger()
        for entry in json.loads(self.path.read_text())["entries"]:
            ledger = ledger.spend(**entry)
        return ledger
