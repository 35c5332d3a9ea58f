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
from dataclasses import dataclass, replace
from pathlib import Path

import filelock
from flwr.app import ConfigRecord, Message

import fnl
from clients.ledger_file import LedgerFile, Release
from fnl.config import ENCODINGS, NETWORKS, NEURONS, Config
from fnl.data.federated import Federation
from fnl.data.own_clips import device_federation
from fnl.errors import BudgetError, ConfigError, CorpusError, DeviceError
from fnl.privacy.budget import Noise, delta_of
from fnl.privacy.ledger import Ledger
from fnl.privacy.limits import Limit, noise_beside
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
from fnl.training.spending import workload_of

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
        if math.isfinite(self.epsilon_budget) and not config.is_private:
            raise ConfigError(
                f"privacy.mode = {config.privacy.mode!r} adds no noise on the device: one with an "
                "epsilon-budget takes part under privacy.mode = 'record' or 'both' only"
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
        if not config.is_private:
            raise DeviceError(
                f"privacy.mode = {privacy.mode!r} would undo what this device's ledger has "
                "accounted for: it takes part under privacy.mode = 'record' or 'both' only"
            )
        for limit in self.limits(config, clips):
            if math.isinf(limit.epsilon):
                continue
            cost = ledger.epsilon(limit.delta, privacy.accountant)
            if cost > limit.epsilon:
                raise DeviceError(
                    f"the clips of partition {self.partition} would have cost epsilon = "
                    f"{cost:.4g} over all runs at delta = {limit.delta:g}, {limit.name} is "
                    f"{limit.epsilon:g}"
                )

    def limits(self, config: Config, clips: int) -> tuple[Limit, Limit]:
        """Return what the run and this device itself allow its clips to cost, over all runs."""
        privacy = config.privacy
        delta = delta_of(privacy.delta, clips)
        run_budget = math.inf if privacy.noise_multiplier > 0 else privacy.epsilon
        return (
            Limit(run_budget, delta, "privacy.epsilon"),
            Limit(self.epsilon_budget, min(delta, BUDGET_DELTA), "the device's epsilon-budget"),
        )

    def noise(
        self, config: Config, file: LedgerFile, clips: int, server_round: int
    ) -> Noise | None:
        """Return what this device adds in `server_round`; None where that does not follow from ε.

        It is set when a run begins on this device, for what is left of the budgets then, and again
        when something else was spent in between, or a round is asked for a second time.

        Raises:
            BudgetError: if what is left is of no use, with what was spent.
        """
        if not config.is_private or config.privacy.noise_multiplier > 0:
            return None
        last = file.last
        if last is not None and last.noise and last.is_before(config.identity(), server_round):
            return last.noise
        work = workload_of(config, self.partition, clips, first_round=server_round)
        return noise_beside(config, work, file.ledger, self.limits(config, clips))

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
                clips = len(federation.labels)
                noise = self.noise(config, file, clips, server_round)
                self.check_budget(config, file.ledger, clips)
                release = Release(
                    str(message.metadata.run_id), server_round, config.identity(), noise
                )
                yield Session(self, config, federation, file, release)


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
    _release: Release

    @property
    def ledger(self) -> Ledger:
        """What was spent before."""
        return self._file.ledger

    @property
    def noise(self) -> Noise | None:
        """What to add; None where that does not follow from what is left of the budget."""
        return self._release.noise

    @property
    def clip_norm(self) -> float | None:
        """Where the run's adaptive bound stands on this device; None at its first round.

        It is on the disk beside what finding it has cost, so it outlives the process. It stays
        with the run: under the same id, or behind it in the rounds of the same configuration.
        """
        last, now = self._file.last, self._release
        if last is None:
            return None
        goes_on = last.run == now.run or last.is_before(now.identity, now.server_round)
        return last.clip_norm if goes_on else None

    def commit(self, ledger: Ledger, clip_norm: float | None = None) -> ConfigRecord:
        """Check and write down what the round has spent; return what the server may know of it.

        Args:
            ledger: with what the round has spent.
            clip_norm: where an adaptive bound stands after it.

        Raises:
            DeviceError: if that is over a budget or cannot be written; nothing may be sent then.
        """
        if ledger != self._file.ledger:
            self.device.check_budget(self.config, ledger, len(self.federation.labels))
            self._file = self._file.commit(ledger, replace(self._release, clip_norm=clip_norm))
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
