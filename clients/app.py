"""The Flower ClientApp: who am I, and one round of local training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.device import Device, identity
from clients.kept_update import keep_update, take_update
from clients.ledger_state import load_clip_norm, load_ledger, save_clip_norm, save_ledger
from clients.lying import as_sent
from clients.public_start import check_start
from fnl.config import Config, parse_config
from fnl.data.federated import open_federation
from fnl.errors import BudgetError
from fnl.runtime.deployment import DEVICE, IDENTITY
from fnl.runtime.determinism import one_thread
from fnl.training.batched.rounds import play_together
from fnl.training.local import LocalRound, Play, play_round, train_round
from fnl.weights import Weights
from fnl.wire import exchange

app = ClientApp()


@app.query()
def identify(message: Message, context: Context) -> Message:
    """Reply with the partition this node holds and how many the engine was started with.

    A device, which knows of itself only, says 0 for how many.
    """
    who = identity(context.node_config, message)
    numbers = MetricRecord(
        {
            "partition-id": int(context.node_config["partition-id"]),
            "num-partitions": int(context.node_config.get("num-partitions", 0)),
        }
    )
    return Message(RecordDict({exchange.METRICS: numbers, IDENTITY: who}), reply_to=message)


@lru_cache(maxsize=2)
def _config(items: tuple[tuple[str, object], ...]) -> Config:
    """Return the run's configuration, parsed once a process instead of once a message."""
    return parse_config(dict(items))


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received global model on this client's clips and reply with weights and report."""
    config, asked, weights = _asked(message, context)
    try:
        content = _train_round(config, asked, weights, message, context)
    except BudgetError as refusal:
        content = _refusal(refusal)
    return Message(content, reply_to=message)


def train_together(messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message]:
    """Reply to several clients' messages of one round as `train` does, trained as one batch."""
    plays: list[Play] = []
    for message, context in zip(messages, contexts, strict=True):
        config, asked, weights = _asked(message, context)
        plays.append(play_round(**_simulated(config, asked, weights, message, context)))
    with one_thread():
        outcomes = play_together(plays)
    replies: list[Message] = []
    for message, context, outcome in zip(messages, contexts, outcomes, strict=True):
        if isinstance(outcome, BudgetError):
            content = _refusal(outcome)
        else:
            config, (server_round, _), weights = _asked(message, context)
            sent = as_sent(config, outcome, weights)
            content = _simulated_content(config, server_round, sent, context)
        replies.append(Message(content, reply_to=message))
    return replies


def _asked(message: Message, context: Context) -> tuple[Config, tuple[int, ConfigRecord], Weights]:
    """Return the run's configuration, the round and its instructions, and the global weights."""
    config = _config(tuple(context.run_config.items()))
    instructions = message.content[exchange.CONFIG]
    weights = message.content[exchange.ARRAYS]
    if not isinstance(instructions, ConfigRecord) or not isinstance(weights, ArrayRecord):
        raise TypeError("the server's message lacks its configuration or the global weights")
    server_round = instructions[exchange.ROUND]
    if not isinstance(server_round, int):
        raise TypeError(f"the server's message has the round {server_round!r}")
    return config, (server_round, instructions), exchange.from_arrays(weights)


def _refusal(reason: BudgetError) -> RecordDict:
    return RecordDict({exchange.REFUSAL: ConfigRecord({"reason": str(reason)})})


def _simulated(
    config: Config,
    asked: tuple[int, ConfigRecord],
    weights: Weights,
    message: Message,
    context: Context,
) -> dict[str, Any]:
    """Return the arguments of `play_round` of a client in a simulation."""
    server_round, instructions = asked
    federation, state = open_federation(config), context.state
    check_start(config, federation, instructions)
    # where an adaptive bound stands the server remembers as well
    told = instructions.get(exchange.CLIP_NORM)
    return {
        "config": config,
        "federation": federation,
        "partition": int(context.node_config["partition-id"]),
        "ledger": load_ledger(state),
        "clip_norm": told if isinstance(told, float) else load_clip_norm(state),
        "spent_rounds": instructions.get(exchange.SPENT_ROUNDS, ()),
        "server_round": server_round,
        "weights": weights,
        "correction": _arrays(message, exchange.CORRECTION),
        "residual": _arrays(message, exchange.RESIDUAL),
    }


def _arrays(message: Message, key: str) -> Weights | None:
    """Return what the server sends beside the global weights under `key`, if it does."""
    given = message.content.get(key)
    return exchange.from_arrays(given) if isinstance(given, ArrayRecord) else None


def _simulated_content(
    config: Config, server_round: int, outcome: LocalRound, context: Context
) -> RecordDict:
    """Keep what a simulated client needs in its next round, and return what it sends."""
    save_ledger(context.state, outcome.ledger)
    save_clip_norm(context.state, outcome.clip_norm)
    content = _content(outcome)
    if outcome.compressed is not None:  # the server tells it again: it outlives this process
        content[exchange.RESIDUAL] = exchange.to_arrays(outcome.compressed.residual)
    if config.coordination.probe:
        keep_update(context.state, server_round, content)
    return content


def _train_round(
    config: Config,
    asked: tuple[int, ConfigRecord],
    weights: Weights,
    message: Message,
    context: Context,
) -> RecordDict:
    """Return what this client answers: of its partition in a simulation, of its own on a device."""
    device, state = Device.of(context.node_config), context.state
    server_round, _ = asked
    if device is None:
        with one_thread():
            outcome = train_round(**_simulated(config, asked, weights, message, context))
        sent = as_sent(config, outcome, weights)
        return _simulated_content(config, server_round, sent, context)
    start = device.with_start(config, message)
    with device.session(config, message, server_round, weights) as session, one_thread():
        outcome = train_round(
            start,
            session.federation,
            partition=device.partition,
            ledger=session.ledger,
            noise=session.noise,
            clip_norm=session.clip_norm,
            server_round=server_round,
            weights=weights,
            correction=_arrays(message, exchange.CORRECTION),
            residual=session.residual,
        )
        content = _content(outcome)
        content[DEVICE] = session.finish(outcome)
    if config.coordination.probe:
        keep_update(state, server_round, content)
    return content


def _content(outcome: LocalRound) -> RecordDict:
    """Return what a client sends of a round."""
    content = RecordDict({exchange.METRICS: outcome.report.to_record()})
    if outcome.masked is not None:  # its own weights stay
        content[exchange.MASKED] = exchange.to_masked(outcome.masked)
        return content
    if outcome.compressed is not None:
        content[exchange.ARRAYS] = exchange.to_arrays(outcome.compressed.arrays)
    else:
        content[exchange.ARRAYS] = exchange.to_arrays(outcome.weights)
    if outcome.shadow_weights is not None:
        content[exchange.SHADOW_ARRAYS] = exchange.to_arrays(outcome.shadow_weights)
    if outcome.floor_weights is not None:
        content[exchange.FLOOR_ARRAYS] = exchange.to_arrays(outcome.floor_weights)
    return content


@app.query(exchange.UPLOAD)
def upload(message: Message, context: Context) -> Message:
    """Reply with the arrays of an update that this client kept when it trained."""
    request = message.content[exchange.CONFIG]
    if not isinstance(request, ConfigRecord):
        raise TypeError("the server's message does not say what it wants")
    server_round, keys = request[exchange.ROUND], request[exchange.WANTED]
    if not isinstance(server_round, int) or not isinstance(keys, list):
        raise TypeError(f"the server wants {keys!r} of round {server_round!r}")
    content = take_update(context.state, server_round, [str(key) for key in keys])
    return Message(content, reply_to=message)
