"""What the server of a deployment knows of its devices' ledgers, shown to them at every request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

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


class SeenLedgers:
    """What the server has seen of its devices' ledgers: told at every request, learnt from replies.

    Args:
        partition_of: node id -> partition.
        results: folder of the runs, in which `devices.json` is kept.

    Raises:
        RunError: if `devices.json` is damaged: without it a deleted ledger would go unnoticed.
    """

    def __init__(self, partition_of: Mapping[int, int], results: str) -> None:
        self._partition_of = partition_of
        self._path = Path(results).expanduser().absolute() / DEVICES_FILE
        self._seen = load_devices(self._path)

    def told(self, partition: int) -> ConfigRecord:
        """Return the record that goes to a device with each request."""
        seen = self._seen.get(partition, Seen())
        return ConfigRecord(
            {
                VERSION: fnl.__version__,
                DEVICE_ID: seen.device,
                RELEASES: seen.releases,
                TIP: seen.tip,
            }
        )

    def note(self, replies: Iterable[Message]) -> None:
        """Write down what devices say of their ledgers; it never goes backwards."""
        changed = False
        for reply in replies:
            partition = self._partition_of.get(reply.metadata.src_node_id)
            if reply.has_error() or partition is None:
                continue
            seen = _parse(reply.content.get(DEVICE))
            before = self._seen.get(partition, Seen())
            if seen is not None and seen.releases > before.releases:
                self._seen[partition] = seen
                changed = True
        if changed:
            _save(self._path, self._seen)


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
