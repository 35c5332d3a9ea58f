"""A real device: its own clips, its own ledger on disk, and what it refuses to do.

A SuperNode is one if its node configuration names `data-root` and `state-dir`; `partition-id` is
the client's number and `epsilon-budget`, optional, the most its clips may ever cost. Everything
that comes from the server is checked here before a clip is touched, and nothing about a clip is in
an error that goes back: see `reviewed`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
from flwr.app import ConfigRecord, Message

import fnl
from clients.ledger_file import LedgerFile
from fnl.config import ENCODINGS, NETWORKS, NEURONS, Config
from fnl.data.federated import Federation
from fnl.data.own_clips import device_federation
from fnl.errors import BudgetError, ConfigError, CorpusError, DeviceError
from fnl.privacy.budget import delta_of
from fnl.privacy.ledger import Ledger
from fnl.runtime.deployment import (
    DEVICE,
    DEVICE_ID,
    IDENTITY,
    IS_DEVICE,
    RELEASES,
    TIP,
    VERSION,
    check_deployable,
    check_version,
)

LOCK_SECONDS = 300.0
"""How long to wait for another process of this device: one of a killed SuperNode may still run."""

BUDGET_DELTA = 1e-3
"""The largest δ at which `epsilon-budget` is counted: the server's choice cannot stretch it."""

_KEYS = ("data-root", "state-dir")


@dataclass(frozen=True)
class Device:
    """What a device knows of itself; none of it comes from the server.

    Attributes:
        data_root: folder of its clips.
        state_dir: folder of its ledger and features, kept as long as the clips are.
        partition: the client's number.
        epsilon_budget: the most its clips may ever cost, over all runs; inf: what each run says.
    """

    data_root: Path
    state_dir: Path
    partition: int
    epsilon_budget: float = math.inf

    @classmethod
    def of(cls, node_config: Mapping[str, object]) -> Device | None:
        """Return the device that a node configuration describes; None in a simulation.

        Raises:
            DeviceError: naming the first entry that is missing or wrong.
        """
        given = [key for key in _KEYS if node_config.get(key)]
        if not given:
            return None
        folders = []
        for key in _KEYS:
            value = node_config.get(key)
            if not isinstance(value, str) or not Path(value).is_absolute():
                raise DeviceError(f"the node configuration needs {key} = an absolute path")
            folders.append(Path(value))
        partition = node_config.get("partition-id")
        if not isinstance(partition, int) or isinstance(partition, bool) or partition < 0:
            raise DeviceError("the node configuration needs partition-id = 0 or a larger number")
        budget = node_config.get("epsilon-budget", math.inf)
        if isinstance(budget, bool) or not isinstance(budget, int | float) or not budget > 0:
            raise DeviceError("the node configuration has an epsilon-budget that is not above 0")
        return cls(folders[0], folders[1], partition, float(budget))

    def check_run(self, config: Config) -> None:
        """Refuse a run that this device must not take part in.

        Raises:
            ConfigError: naming the key and what would be right.
        """
        check_deployable(config)
        for key, known in (("network", NETWORKS), ("neuron", NEURONS), ("encoding", ENCODINGS)):
            if (name := getattr(config.model, key)) not in known:
                raise ConfigError(
                    f"model.{key} = {name!r} would import code by the server's word: "
                    f"devices take {', '.join(known)}"
                )
        if math.isfinite(self.epsilon_budget) and config.privacy.mode != "record":
            raise ConfigError(
                f"privacy.mode = {config.privacy.mode!r}: a device with an epsilon-budget takes "
                "part under privacy.mode = 'record' only"
            )
        if self.partition >= config.data.clients:
            raise ConfigError(
                f"data.clients = {config.data.clients} has no partition {self.partition}: the "
                "device's partition-id must be below"
            )

    def check_budget(self, config: Config, ledger: Ledger, clips: int) -> None:
        """Refuse if `ledger` costs more than the run's or the device's own budget.

        Raises:
            DeviceError: with what it costs and the budget.
        """
        privacy = config.privacy
        if not ledger.entries:
            return
        if privacy.mode != "record":
            raise DeviceError(
                f"privacy.mode = {privacy.mode!r} would undo what this device's ledger has "
                "accounted for: it takes part under privacy.mode = 'record' only"
            )
        delta = delta_of(privacy.delta, clips)
        run_budget = math.inf if privacy.noise_multiplier > 0 else privacy.epsilon
        limits = (
            (delta, run_budget, "privacy.epsilon"),
            (min(delta, BUDGET_DELTA), self.epsilon_budget, "the device's epsilon-budget"),
        )
        for delta, limit, name in limits:
            if math.isinf(limit):
                continue
            cost = ledger.epsilon(delta, privacy.accountant)
            if cost > limit:
                raise DeviceError(
                    f"the clips of partition {self.partition} would have cost epsilon = "
                    f"{cost:.4g} over all runs at delta = {delta:g}, {name} is {limit:g}"
                )

    @contextmanager
    def session(self, config: Config, message: Message, server_round: int) -> Iterator[Session]:
        """Check a request, lock the state, and yield what a round needs.

        Raises:
            ConfigError, DeviceError: whatever this device refuses; see `reviewed`.
        """
        with reviewed(self.partition):
            self.check_run(config)
            known = message.content.get(DEVICE)
            if not isinstance(known, ConfigRecord) or not {
                VERSION,
                DEVICE_ID,
                RELEASES,
                TIP,
            } <= set(known):
                raise DeviceError("the server did not say what it knows of this device's ledger")
            check_version(known[VERSION], "the server")
            self.state_dir.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.state_dir / "lock", timeout=LOCK_SECONDS):
                file = LedgerFile.open(self.state_dir)
                file.check_against(known)
                federation = device_federation(
                    config, self.data_root, self.state_dir / "cache", self.partition
                )
                self.check_budget(config, file.ledger, len(federation.labels))
                run = message.metadata.run_id
                yield Session(self, config, federation, file, run, server_round)


@dataclass
class Session:
    """One round on a device, under the lock of its state.

    Attributes:
        federation: the device's clips.
    """

    device: Device
    config: Config
    federation: Federation
    _file: LedgerFile
    _run: int
    _round: int

    @property
    def ledger(self) -> Ledger:
        """What was spent before."""
        return self._file.ledger

    def commit(self, ledger: Ledger) -> ConfigRecord:
        """Check and write down what the round has spent; return what the server may know of it.

        Raises:
            DeviceError: if that is over a budget or cannot be written; nothing may be sent then.
        """
        if ledger != self._file.ledger:
            self.device.check_budget(self.config, ledger, len(self.federation.labels))
            self._file = self._file.commit(ledger, run=self._run, server_round=self._round)
        return ConfigRecord(
            {
                DEVICE_ID: self._file.device,
                RELEASES: self._file.releases,
                TIP: self._file.tip,
            }
        )


@contextmanager
def reviewed(partition: int) -> Iterator[None]:
    """Let through errors that are written for the server; of others, only say that they were.

    A message about a clip names a file, and with it a speaker: the device's own log has it.
    """
    try:
        yield
    except (ConfigError, DeviceError, BudgetError):
        raise
    except CorpusError as error:
        raise DeviceError(
            f"partition {partition} cannot use its clips: the device's own log says why"
        ) from error
    except Exception as error:
        raise DeviceError(
            f"partition {partition} failed ({type(error).__name__}): the device's own log says why"
        ) from error


def identity(node_config: Mapping[str, object], message: Message) -> ConfigRecord:
    """Return who this node is, for the server's query, after a look at who is asking.

    Raises:
        DeviceError: if the server runs another version, or the node configuration is wrong.
    """
    asked = message.content.get(IDENTITY)
    check_version(asked.get(VERSION) if isinstance(asked, ConfigRecord) else None, "the server")
    device = Device.of(node_config)
    return ConfigRecord({VERSION: fnl.__version__, IS_DEVICE: device is not None})
