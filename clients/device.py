"""A real device: its own clips, its own ledger on disk, and what it refuses to do.

A SuperNode is one if its node configuration names `data-root` and `state-dir`; `partition-id` is
the client's number and `epsilon-budget`, optional, the most its clips may ever cost
(`device_budget`). Everything that comes from the server is checked here before a clip is touched,
and nothing about a clip is in an error that goes back: see `reviewed`.
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
from clients.device_budget import (
    check_accounted,
    check_uncorrected,
    check_weights,
    check_words,
    terms_of,
)
from clients.ledger_file import LedgerFile, Release
from clients.public_start import device_start
from clients.residual_file import Belonging, load_residual, save_residual
from fnl.config import Config
from fnl.config.model import BUILT_IN
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
from fnl.training.local import LocalRound
from fnl.training.spending import book_round, noise_of, workload_of
from fnl.weights import Weights
from fnl.wire import exchange

LOCK_SECONDS = 300.0
"""How long to wait for another process of this device: one of a killed SuperNode may still run."""

_KEYS = ("data-root", "state-dir")


@dataclass(frozen=True)
class Device:
    """What a device knows of itself; none of it comes from the server.

    Attributes:
        data_root: folder of its clips.
        state_dir: folder of its ledger and features, kept as long as the clips are.
        partition: the client's number.
        epsilon_budget: the most its clips may ever cost, over all runs; inf: what each run says.
        initial_weights: its copy of the public weights, for runs that leave a part of them unsent.
        frame_hop_ms: the time step of its features; 0: what each run says.
    """

    data_root: Path
    state_dir: Path
    partition: int
    epsilon_budget: float = math.inf
    initial_weights: Path | None = None
    frame_hop_ms: int = 0

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
        initial = node_config.get("initial-weights") or None
        if initial is not None and not (isinstance(initial, str) and Path(initial).is_absolute()):
            raise DeviceError(
                "the node configuration has initial-weights that are no absolute path"
            )
        hop = node_config.get("frame-hop-ms", 0)
        if isinstance(hop, bool) or not isinstance(hop, int) or hop < 0:
            raise DeviceError(
                "the node configuration has a frame-hop-ms that is no whole number of milliseconds"
            )
        weights = Path(initial) if initial else None
        return cls(folders[0], folders[1], partition, float(budget), weights, hop)

    @property
    def has_budget(self) -> bool:
        """Whether the device itself limits what its clips may cost."""
        return math.isfinite(self.epsilon_budget)

    def check_run(self, config: Config) -> None:
        """Refuse a run that this device must not take part in.

        Raises:
            ConfigError: naming the key and what would be right.
            BudgetError: the same, of what its budget does not allow.
        """
        check_deployable(config)
        for key, name in config.model.own.items():
            raise ConfigError(
                f"model.{key} = {name!r} would import code by the server's word: devices take "
                f"{', '.join(BUILT_IN[key])}"
            )
        if self.partition >= config.data.clients:
            raise ConfigError(
                f"data.clients = {config.data.clients} has no partition {self.partition}: the "
                "device's partition-id must be below"
            )
        data = config.data
        if self.frame_hop_ms not in (0, data.frame_hop_ms, *data.client_hops):
            raise ConfigError(
                f"data.frame-hops = {data.frame_hops!r} and data.frame-hop-ms = "
                f"{data.frame_hop_ms} do not have this device's time step of {self.frame_hop_ms} ms"
            )
        if self.has_budget:
            check_accounted(config)

    def with_start(self, config: Config, message: Message) -> Config:
        """Return the configuration to train with: with the device's own copy of public weights.

        Raises:
            DeviceError: if it needs one and has none, or another than the server's.
        """
        with reviewed(self.partition):
            return device_start(config, self.initial_weights, message.content.get(exchange.CONFIG))

    @contextmanager
    def session(
        self, config: Config, message: Message, server_round: int, weights: Weights
    ) -> Iterator[Session]:
        """Check a request, lock the state, book the round, and yield what it needs.

        What the round costs is on the disk before anything is computed on the clips: a round that
        fails has spent it, for that it failed may tell something of them.

        Raises:
            ConfigError, DeviceError, BudgetError: whatever this device refuses; see `reviewed`.
        """
        with reviewed(self.partition):
            self.check_run(config)
            if self.has_budget:
                check_weights(weights)
                check_uncorrected(message)
            known = _known(message)
            self.state_dir.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.state_dir / "lock", timeout=LOCK_SECONDS):
                file = LedgerFile.open(self.state_dir)
                file.check_against(known)
                if self.has_budget:
                    check_words(config, file.terms)
                federation = device_federation(
                    config,
                    self.data_root,
                    self.state_dir / "cache",
                    self.partition,
                    hop=self.frame_hop_ms,
                )
                before = file.ledger
                start = _clip_norm(file, config, message, server_round)
                if config.is_private:
                    round_id = (str(message.metadata.run_id), server_round)
                    file = self._book(config, file, len(federation.labels), round_id, start)
                elif before.entries:
                    raise DeviceError(
                        f"privacy.mode = {config.privacy.mode!r} would undo what this device's "
                        "ledger has accounted for: it takes part under privacy.mode = 'record' or "
                        "'both' only"
                    )
                noise = file.last.noise if config.is_private and file.last else None
                run = str(message.metadata.run_id)
                belongs = Belonging(run, config.identity())
                left = None
                if config.compresses:
                    left = load_residual(self.state_dir, belongs, weights)
                yield Session(federation, before, noise, start, left, file, belongs)

    def _book(
        self,
        config: Config,
        file: LedgerFile,
        clips: int,
        round_id: tuple[str, int],
        clip_norm: float | None,
    ) -> LedgerFile:
        """Return the ledger with the round in it, as it now is on the disk.

        The noise, unless the run fixes it, is set when a run begins on this device, for what is
        left of the budgets then, and again when something else was spent in between, or a round is
        asked for a second time.

        Raises:
            BudgetError: if the round would overdraw a budget, or what is left is of no use.
            DeviceError: if it cannot be written.
        """
        privacy, (run, server_round) = config.privacy, round_id
        delta = delta_of(privacy.delta, clips)
        limits = [Limit(privacy.epsilon, delta, "privacy.epsilon", privacy.accountant)]
        terms = file.terms
        if self.has_budget:
            terms = terms_of(config, self.epsilon_budget, clips, file.terms)
            limits.append(terms.limit(self.epsilon_budget))
        work = workload_of(config, self.partition, clips)
        last = file.last
        if privacy.noise_multiplier > 0:
            noise = noise_of(config, work)
        elif last is not None and last.noise and last.is_before(config.identity(), server_round):
            noise = last.noise
        else:
            left = workload_of(config, self.partition, clips, first_round=server_round)
            noise = noise_beside(config, left, file.ledger, limits)
        ledger = book_round(config, file.ledger, noise, work)
        if self.has_budget:
            limits[-1].check(ledger)
        release = Release(run, server_round, config.identity(), noise, clip_norm)
        return file.commit(ledger, release, terms)


@dataclass
class Session:
    """One round on a device, under the lock of its state; what it costs is booked.

    Attributes:
        federation: the device's clips.
        ledger: what was spent before.
        noise: what to add; None without record-level privacy.
        clip_norm: where the run's adaptive bound stands on this device; None at its first round.
        residual: what compression has left unsent of the run's updates; None for nothing.
    """

    federation: Federation
    ledger: Ledger
    noise: Noise | None
    clip_norm: float | None
    residual: Weights | None
    _file: LedgerFile
    _belongs: Belonging

    def finish(self, outcome: LocalRound) -> ConfigRecord:
        """Write down where the round has ended; return what the server may know of the ledger.

        Args:
            outcome: its ledger has what the round has spent; its adaptive bound and what is left
                unsent are what the next one goes on with.

        Raises:
            DeviceError: if that is not what was booked, or cannot be written; nothing may be sent.
        """
        if outcome.ledger != self._file.ledger:
            raise DeviceError("the round spent something else than was booked: nothing was sent")
        if self.noise is not None:
            self._file = self._file.with_clip_norm(outcome.clip_norm)
        if outcome.compressed is not None:
            state = self._file.folder.parent
            save_residual(state, self._belongs, outcome.compressed.residual)
        return ConfigRecord(
            {
                DEVICE_ID: self._file.device,
                RELEASES: self._file.releases,
                TIP: self._file.tip,
            }
        )


def _known(message: Message) -> ConfigRecord:
    """Return what the server knows of this device's ledger."""
    known = message.content.get(DEVICE)
    if not isinstance(known, ConfigRecord) or not {VERSION, DEVICE_ID, RELEASES, TIP} <= set(known):
        raise DeviceError("the server did not say what it knows of this device's ledger")
    check_version(known[VERSION], "the server")
    return known


def _clip_norm(
    file: LedgerFile, config: Config, message: Message, server_round: int
) -> float | None:
    """Return where the run's adaptive bound stands on this device; None at its first round.

    It is on the disk beside what finding it has cost, so it outlives the process. It stays with the
    run: under the same id, or behind it in the rounds of the same configuration.
    """
    last = file.last
    if last is None:
        return None
    goes_on = last.run == str(message.metadata.run_id)
    return last.clip_norm if goes_on or last.is_before(config.identity(), server_round) else None


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
        raise DeviceError(f"partition {partition} failed: the device's own log says why") from error


def identity(node_config: Mapping[str, object], message: Message) -> ConfigRecord:
    """Return who this node is, for the server's query, after a look at who is asking.

    Raises:
        DeviceError: if the server runs another version, or the node configuration is wrong.
    """
    asked = message.content.get(IDENTITY)
    check_version(asked.get(VERSION) if isinstance(asked, ConfigRecord) else None, "the server")
    device = Device.of(node_config)
    return ConfigRecord({VERSION: fnl.__version__, IS_DEVICE: device is not None})
