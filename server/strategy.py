"""RateStrategy: rounds as Flower's strategies have them, and as they are in the world."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fnl.config import Config
from fnl.config.rules import NOISE
from fnl.privacy.sampled_clients import drawn_candidates
from fnl.runtime.deployment import DEVICE
from fnl.runtime.engine import notify
from fnl.runtime.events import RoundStarted
from fnl.runtime.releases import Release, Releases, What
from fnl.weights import Weights, weights_hash
from fnl.wire import exchange
from fnl.wire.report import ENTRIES
from server.client_privacy import ClientPrivacy
from server.coordination import rules_read
from server.devices import SeenLedgers
from server.global_round import GlobalRound
from server.replies.arrays import content_bytes
from server.replies.rejections import ABSENT, by_partition, require_enough
from server.replies.vetting import Expected, Shape, sent_to, vet
from server.rounds import Rounds
from server.spending import Spending


class RateStrategy(Strategy):
    """Asks a round's candidates, vets what comes back, and lets `rounds` make a model of it.

    Flower's round numbers begin at 1; here they go on behind the rounds that are done. In a
    simulation each client is told in which rounds it has spent: its own ledger is gone with a
    process that was killed.

    Args:
        config: of the run.
        rounds: what makes the next global model of a round's answers.
        spending: what the server knows of the clients' budgets.
        releases: what has left the run, over all its starts.
        client_privacy: books each global model before it leaves; None without client-level privacy.
        nodes: partition -> node id.
        shape: of the clients' reports.
        done: rounds that were done before this start.
        devices: what is known of the ledgers of real devices, which are on their disks: nobody
            else's word counts there. None: clients live in a simulation.
        initial: digest of the weights that `model.initial` names, which clients check where they
            keep a part of them; empty without.
        on_round: called with every round when it is done.
    """

    def __init__(
        self,
        config: Config,
        rounds: Rounds,
        spending: Spending,
        releases: Releases,
        *,
        client_privacy: ClientPrivacy | None = None,
        nodes: Mapping[int, int],
        shape: Shape,
        done: int = 0,
        devices: SeenLedgers | None = None,
        initial: str = "",
        on_round: Callable[[GlobalRound], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._rounds = rounds
        self._spending = spending
        self._releases = releases
        self._client_privacy = client_privacy
        self._nodes = nodes
        self._shape = shape
        self._done = done
        self._devices = devices
        self._initial = {exchange.INITIAL: initial} if initial else {}
        self._on_round = on_round
        self._global: Weights = {}
        self._asked: dict[int, Message] = {}
        self._bytes_down = 0
        self._entries = _entries(config)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask this round's candidates, of the run's public schedule or drawn in secret."""
        server_round += self._done
        notify(grid, RoundStarted(server_round))
        self._global = exchange.from_arrays(arrays)
        asked = drawn_candidates(self._config, server_round)
        content = RecordDict(
            {
                exchange.ARRAYS: arrays,
                exchange.CONFIG: ConfigRecord(
                    {**config, **self._initial, exchange.ROUND: server_round}
                ),
            }
        )
        if self._config.is_private and self._config.privacy.secure_noise:  # else the same bits
            asking = Release(
                what=What.ASKED, server_round=server_round, digest=weights_hash(self._global)
            )
            self._releases.note(asking, seeded=False)
        self._asked = {k: self._message(content, k) for k in asked.tolist()}
        messages = list(self._asked.values())
        corrected = [m.content for m in messages if exchange.CORRECTION in m.content]
        sizes = [content_bytes(RecordDict({"": told[exchange.CORRECTION]})) for told in corrected]
        self._bytes_down = len(asked) * content_bytes(content) + sum(sizes)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Select and average what can be taken, book what it cost, and hand the round on.

        Raises:
            RunError: if too few candidates gave a usable answer, or a rule failed.
        """
        server_round += self._done
        replies, settings = list(replies), self._config.coordination
        if self._devices is not None:
            self._devices.note(replies)
        answers, rejected = vet(replies, self._expected())
        usable = len(answers)
        if self._client_privacy is not None:  # what an update holds must not stop a round
            usable = len(self._asked) - sum(one.kind in ABSENT for one in rejected)
        if not self._config.samples_candidates:  # else a stop would tell who was drawn
            require_enough(settings, server_round, usable, rejected)
        played = self._rounds.play(server_round, answers, asked=[*self._asked], before=self._global)
        client_level = self._client_privacy and self._client_privacy.book(
            server_round, played.after
        )
        for reply in filter(Message.has_content, replies):
            reply.content.clear()  # Flower holds a round's replies until the next round's are there
        rejections = tuple(sorted([*rejected, *played.rejections], key=by_partition))
        finished = replace(
            played,
            bytes_down=played.bytes_down + self._bytes_down,
            rejections=rejections,
            assumed=self._spending.book(server_round, played.reports, rejections),
            epsilon_client=client_level,
        )
        self._asked = {}
        self._on_round(finished)
        return exchange.to_arrays(finished.after), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Evaluate centrally only."""
        del server_round, arrays, config, grid
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> None:
        """Evaluate centrally only."""
        del server_round, replies

    def summary(self) -> None:
        """Log what the strategy is."""
        settings = self._config.coordination
        log(INFO, "\t├──> Candidates: %s, selected: %s", settings.candidates, settings.selected)
        log(INFO, "\t├──> Selection: %s", settings.selection)
        log(INFO, "\t└──> Aggregation: %s", settings.aggregation)

    def _expected(self) -> Expected:
        config = self._config
        return Expected(
            partition_of={self._nodes[k]: k for k in self._asked},
            messages=sent_to(self._asked.values()),
            like=self._global,
            models=_models(config, simulated=self._devices is None),
            entries=self._entries,
            shape=self._shape,
            epsilons=self._spending.reported,
            max_update_norm=config.coordination.max_update_norm,
            accountant=config.privacy.accountant,
            config=config,
            booked={k: len(self._spending.rounds(k)) for k in self._asked},
        )

    def _message(self, content: RecordDict, partition: int) -> Message:
        """Return the request to a candidate; candidates share what is not told to one of them."""
        own: dict[str, ArrayRecord | ConfigRecord] = {}
        if self._devices is not None:
            own[DEVICE] = self._devices.told(partition)
        else:
            own |= self._lost_with_a_process(partition, content[exchange.CONFIG])
        correction = self._rounds.correction(partition, like=self._global)
        if correction is not None:
            own[exchange.CORRECTION] = exchange.to_arrays(correction)
        content = RecordDict({**content, **own})
        return Message(content, self._nodes[partition], MessageType.TRAIN)

    def _lost_with_a_process(
        self, partition: int, config: object
    ) -> dict[str, ArrayRecord | ConfigRecord]:
        """Return what a simulated client is told of itself, by key: real devices keep it."""
        told: dict[str, ArrayRecord | ConfigRecord] = {}
        spent, bound = self._spending.rounds(partition), self._spending.clip_norm(partition)
        if spent and isinstance(config, ConfigRecord):
            bounded = {} if bound is None else {exchange.CLIP_NORM: bound}
            told[exchange.CONFIG] = ConfigRecord(
                {**config, exchange.SPENT_ROUNDS: list(spent), **bounded}
            )
        if (residual := self._rounds.residuals.of(partition)) is not None:
            told[exchange.RESIDUAL] = exchange.to_arrays(residual)
        return told


def _models(config: Config, *, simulated: bool) -> tuple[str, ...]:
    """Return the keys of the weights that every answer must carry."""
    residual = (exchange.RESIDUAL,) if config.compresses and simulated else ()
    if config.coordination.probe or config.shares_noise:  # asked for later, or never seen
        return residual
    shadow = (exchange.SHADOW_ARRAYS,) if config.evaluation.shadow else ()
    floor = (exchange.FLOOR_ARRAYS,) if config.evaluation.floor else ()
    return (exchange.ARRAYS, *shadow, *floor, *residual)


def _entries(config: Config) -> frozenset[str]:
    """Return the entries that every report must have: what rules and ledgers need."""
    needed = {"epsilon"} if config.is_private else set[str]()
    needed |= set() if config.shares_noise else {"update_norm"}
    needed |= {"frame_hop_ms"} if config.data.client_hops else set()
    read = needed.union(*(r or () for r in rules_read(config).values())) & ENTRIES.keys()
    return frozenset(read - NOISE | needed)  # without noise a report says nothing of it
