"""Are all releases in the books? Messages are counted, by whoever sees them, and compared.

A short run is stopped and goes on from an earlier checkpoint, so that two rounds are done twice.
The auditor takes down what goes over the wire: every reply of a client, every global model. The
same bits again are no new release. Opacus' accountant then says what all of it costs, and the ε
that the run reports must not be lower. Noise comes from the operating system, else a repeated round
would be the same bits. Clients add a fixed noise, as a budget would forbid them the repeated round.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from opacus.accountants import RDPAccountant

from fnl.audit.played import directory_of, play, shortened
from fnl.config import Config
from fnl.errors import ConfigError, RunError
from fnl.privacy.client_level import client_delta
from fnl.privacy.ledger import RDP_ORDERS
from fnl.runtime.checkpoint import checkpoints
from fnl.runtime.releases import Releases, What
from fnl.schedule import asked_in
from fnl.weights import weights_hash
from fnl.wire import exchange
from fnl.wire.report import ClientReport

ROUNDS = 4
"""Rounds of the run: it is stopped at the end of the last one, and does the last two again."""

_SIGMA = 1.0
_STOPPED = "stopped by the audit"
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Count:
    """What one client, or a federation, spent: by its own books, and by what was seen.

    Attributes:
        whose: of whom.
        releases: that were seen.
        reported: ε that the run says.
        counted: ε of what was seen, at the same δ, by Opacus' Rényi accountant.
    """

    whose: str
    releases: int
    reported: float
    counted: float

    @property
    def holds(self) -> bool:
        """Whether no less is reported than was seen."""
        return self.reported >= self.counted * (1 - _ROUNDING)

    @property
    def described(self) -> str:
        """What is wrong, in words."""
        return (
            f"{self.whose} reports ε = {self.reported:.4g}, and {self.releases} releases that were "
            f"seen cost {self.counted:.4g}"
        )


@dataclass
class _Watch:
    """Takes down what is seen of a run over all its starts."""

    config: Config
    reports: dict[int, dict[str, ClientReport]] = field(default_factory=lambda: defaultdict(dict))
    models: dict[str, int] = field(default_factory=dict)
    replies: int = 0
    stopped: bool = False

    def on_send(self, message: Message) -> None:
        """A global model is on its way: it was released after the round before.

        Where candidates are drawn by chance, the first of the last round stops the first start.
        """
        instructions = message.content.get(exchange.CONFIG)
        arrays = message.content.get(exchange.ARRAYS)
        if not isinstance(instructions, ConfigRecord) or not isinstance(arrays, ArrayRecord):
            return
        server_round = instructions[exchange.ROUND]
        if isinstance(server_round, int) and server_round > 1:
            self.models[weights_hash(exchange.from_arrays(arrays))] = server_round - 1
        if self.config.samples_candidates and server_round == ROUNDS:
            self._stop()  # how many will answer nobody knows

    def on_reply(self, reply: Message) -> None:
        """A client has answered; the last one of the last round stops the first start.

        What it says is taken for the whole release where it sends its weights later or not at all.
        """
        if reply.metadata.message_type != MessageType.TRAIN or not reply.has_content():
            return
        key = exchange.MASKED if self.config.shares_noise else exchange.ARRAYS
        record, arrays = reply.content.get(exchange.METRICS), reply.content.get(key)
        if isinstance(record, MetricRecord):
            parts = arrays.values() if isinstance(arrays, ArrayRecord) else ()
            content = [array.data for array in parts] or [repr(dict(record)).encode()]
            most = self.config.most_rate(record.get("frame-hop-ms"))
            report = ClientReport.from_record(record, most_rate=most)
            digest = hashlib.sha256(b"".join(content)).hexdigest()
            self.reports[report.partition][digest] = report
        self.replies += 1
        expected = ROUNDS * self.config.coordination.candidates
        if self.replies == expected and not self.config.samples_candidates:
            self._stop()

    def _stop(self) -> None:
        """Stop the first start."""
        if not self.stopped:
            self.stopped = True
            raise RunError(_STOPPED)


def count_releases(config: Config) -> list[Count]:
    """Stop a short run, let it go on, and count what left it.

    Args:
        config: of the run; ε is compared by Rényi accounting.

    Raises:
        ConfigError: if nothing is private.
    """
    if not (config.is_private or config.is_client_private):
        raise ConfigError("privacy.mode = 'none' keeps no books to audit")
    with TemporaryDirectory() as folder:
        attempts = (_stopped(config, Path(folder) / str(number)) for number in count())
        watch = next(watch for watch in attempts if watch is not None)
        played = watch.config
        checkpoints(directory_of(played) / "checkpoints")[0].unlink()
        path = play(played, on_send=watch.on_send, on_reply=watch.on_reply)
        found = _clients(watch, path) if played.is_private else []
        return found + ([_server(watch, path)] if played.is_client_private else [])


def _stopped(config: Config, folder: Path) -> _Watch | None:
    """Return the watch of a run that was stopped in its last round; None if nobody was asked then.

    That may be where candidates are drawn by chance.
    """
    played = shortened(
        config,
        folder,
        ROUNDS,
        privacy_secure_noise=True,
        privacy_accountant="rdp",
        run_checkpoint_every=1,
        **({"privacy_noise_multiplier": _SIGMA} if config.is_private else {}),
    )
    watch = _Watch(played)
    try:
        play(played, on_send=watch.on_send, on_reply=watch.on_reply)
    except RunError as stopped:
        if _STOPPED not in str(stopped):
            raise
        return watch
    return None


def _clients(watch: _Watch, path: Path) -> list[Count]:
    last = (
        pl.read_parquet(path / "clients.parquet", glob=False)
        .drop_nulls("epsilon")
        .group_by("partition")
    )
    reported = last.agg(pl.col("epsilon", "delta").last()).sort("partition")
    return [
        Count(
            f"client {partition}",
            len(watch.reports[partition]),
            epsilon,
            _cost(watch, partition, delta),
        )
        for partition, epsilon, delta in reported.iter_rows()
    ]


def _cost(watch: _Watch, partition: int, delta: float) -> float:
    accountant = RDPAccountant()
    bound = watch.config.privacy.rate_clip_norm
    for seen in watch.reports[partition].values():
        for _ in range(seen.steps):
            accountant.step(
                noise_multiplier=seen.noise_multiplier or 0.0, sample_rate=seen.sample_rate
            )
        if seen.rate_noise:
            sigma = seen.rate_noise * seen.num_examples / bound
            accountant.step(noise_multiplier=sigma, sample_rate=1.0)
    return accountant.get_privacy_spent(delta=delta, alphas=RDP_ORDERS)[0]


def _server(watch: _Watch, path: Path) -> Count:
    """Return the count of global models, each with the most noise said of its round."""
    config = watch.config
    most: dict[int, float] = defaultdict(float)
    for said in Releases(path).of(What.MODEL):
        most[said.server_round] = max(most[said.server_round], said.noise_multiplier or 0.0)
    last = pl.read_parquet(path / "rounds.parquet", glob=False)["epsilon_client"].drop_nulls()[-1]
    accountants = [RDPAccountant() for _ in range(config.data.clients)]
    models = [*watch.models.values(), config.run.rounds]  # the last one is the run's
    for server_round in models:
        everyone = range(config.data.clients)
        charged, rate = (
            (everyone, config.coordination.candidates / config.data.clients)
            if config.samples_candidates
            else (asked_in(config, server_round), 1.0)
        )
        for partition in charged:
            accountants[partition].step(noise_multiplier=most[server_round], sample_rate=rate)
    delta = client_delta(config)
    counted = max(
        one.get_privacy_spent(delta=delta, alphas=RDP_ORDERS)[0]
        for one in accountants
        if one.history
    )
    return Count("the server (client level)", len(models), float(last), counted)
