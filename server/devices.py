"""What the server of a deployment knows of its devices' ledgers, shown to them at every request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

import fnl
from fnl.config import Config
from fnl.data.federated import Federation, cache_dir, open_federation
from fnl.data.own_clips import server_federation
from fnl.errors import RunError
from fnl.runtime.atomic import write_text_atomically
from fnl.runtime.deployment import (
    DEPLOYMENT,
    DEVICE,
    DEVICE_ID,
    RELEASES,
    TIP,
    VERSION,
    check_deployable,
)
from fnl.runtime.engine import engine_name

DEVICES_FILE = "devices.json"
"""In `run.results-dir`: it outlives runs, as the devices' ledgers do."""


def open_server_data(config: Config, grid: Grid) -> Federation:
    """Return the data the server may see: all of it in a simulation, its own in a deployment.

    Raises:
        FnlError: if there is none, or the configuration must not be deployed.
    """
    if engine_name(grid) != DEPLOYMENT:
        return open_federation(config)
    check_deployable(config)
    return server_federation(config, cache_dir(config.data))


@dataclass(frozen=True)
class Seen:
    """A client's ledger as the server last saw it; without releases: never."""

    device: str = ""
    releases: int = 0
    tip: str = ""


class DeviceGrid(Grid):
    """A grid that tells every device what the server knows of its ledger, and learns from replies.

    Args:
        grid: the one that carries the messages.
        nodes: partition -> node id.
        results: folder of the runs, in which `devices.json` is kept.

    Raises:
        RunError: if `devices.json` is damaged: without it a deleted ledger would go unnoticed.
    """

    def __init__(self, grid: Grid, nodes: Mapping[int, int], results: str) -> None:
        self._grid = grid
        self._partitions = {node: partition for partition, node in nodes.items()}
        self._path = Path(results).expanduser().absolute() / DEVICES_FILE
        self._seen = load_devices(self._path)

    def set_run(self, run: Run) -> None:
        """See `Grid`."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """See `Grid`."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See `Grid`."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """See `Grid`."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """See `Grid`."""
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See `Grid`."""
        return self._grid.push_messages([self._instructed(message) for message in messages])

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See `Grid`."""
        return self._noted(self._grid.pull_messages(message_ids))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See `Grid`."""
        instructed = [self._instructed(message) for message in messages]
        return self._noted(self._grid.send_and_receive(instructed, timeout=timeout))

    def _instructed(self, message: Message) -> Message:
        """Return `message` with the record of its device; messages of a round share the rest."""
        if message.metadata.message_type.partition(".")[0] != MessageType.TRAIN:
            return message
        partition = self._partitions[message.metadata.dst_node_id]
        seen = self._seen.get(partition, Seen())
        content = RecordDict(dict(message.content))
        content[DEVICE] = ConfigRecord(
            {
                VERSION: fnl.__version__,
                DEVICE_ID: seen.device,
                RELEASES: seen.releases,
                TIP: seen.tip,
            }
        )
        message.content = content
        return message

    def _noted(self, replies: Iterable[Message]) -> list[Message]:
        """Write down what devices say of their ledgers; it never goes backwards."""
        replies, changed = list(replies), False
        for reply in replies:
            partition = self._partitions.get(reply.metadata.src_node_id)
            if reply.has_error() or partition is None:
                continue
            seen = _parse(reply.content.get(DEVICE))
            before = self._seen.get(partition, Seen())
            if seen is not None and seen.releases > before.releases:
                self._seen[partition] = seen
                changed = True
        if changed:
            _save(self._path, self._seen)
        return replies


def _parse(record: ConfigRecord | MetricRecord | ArrayRecord | None) -> Seen | None:
    """Return what a reply says of its device's ledger; None if that is not what devices say."""
    if not isinstance(record, ConfigRecord):
        return None
    device, releases, tip = record.get(DEVICE_ID), record.get(RELEASES), record.get(TIP)
    if not isinstance(device, str) or not isinstance(tip, str) or not isinstance(releases, int):
        return None
    if len(device) > 64 or len(tip) > 64 or not 0 < releases < 2**53:
        return None
    return Seen(device, releases, tip)


def load_devices(path: Path) -> dict[int, Seen]:
    """Return partition -> what was last seen of its ledger; empty at first.

    Raises:
        RunError: if the file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {int(partition): Seen(**seen) for partition, seen in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(
            f"{path}, the record of the devices' ledgers, is damaged ({type(error).__name__}): "
            "restore it from a copy"
        ) from error


def _save(path: Path, seen: Mapping[int, Seen]) -> None:
    text = json.dumps({str(k): asdict(v) for k, v in sorted(seen.items())}, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, text)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error
