"""The Flower ClientApp: who am I, and one round of local training."""

from __future__ import annotations

from functools import lru_cache

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.device import Device, identity
from clients.kept_update import keep_update, take_update
from clients.ledger_state import load_clip_norm, load_ledger, save_clip_norm, save_ledger
from clients.public_start import check_start
from fnl.config import Config, parse_config
from fnl.data.federated import open_federation
from fnl.errors import BudgetError
from fnl.runtime.deployment import DEVICE, IDENTITY
from fnl.runtime.determinism import one_thread
from fnl.training.local import LocalRound, train_round
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
    config = _config(tuple(context.run_config.items()))
    instructions = message.content[exchange.CONFIG]
    weights = message.content[exchange.ARRAYS]
    if not isinstance(instructions, ConfigRecord) or not isinstance(weights, ArrayRecord):
        raise TypeError("the server's message lacks its configuration or the global weights")
    server_round = instructions[exchange.ROUND]
    if not isinstance(server_round, int):
        raise TypeError(f"the server's message has the round {server_round!r}")
    arrays = exchange.from_arrays(weights)
    try:
        content = _train_round(config, (server_round, instructions), arrays, message, context)
    except BudgetError as refusal:
        content = RecordDict({exchange.REFUSAL: ConfigRecord({"reason": str(refusal)})})
    return Message(content, reply_to=message)


def _train_round(
    config: Config,
    asked: tuple[int, ConfigRecord],
    weights: Weights,
    message: Message,
    context: Context,
) -> RecordDict:
    """Return what this client answers: of its partition in a simulation, of its own on a device."""
    device, state = Device.of(context.node_config), context.state
    server_round, instructions = asked
    if device is None:
        federation = open_federation(config)
        check_start(config, federation, instructions)
        # where an adaptive bound stands the server remembers as well
        told = instructions.get(exchange.CLIP_NORM)
        with one_thread():
            outcome = train_round(
                config,
                federation,
                partition=int(context.node_config["partition-id"]),
                ledger=load_ledger(state),
                clip_norm=told if isinstance(told, float) else load_clip_norm(state),
                spent_rounds=instructions.get(exchange.SPENT_ROUNDS, ()),  # type: ignore[arg-type]  # ints, from our own server
                server_round=server_round,
                weights=weights,
            )
        save_ledger(state, outcome.ledger)
        save_clip_norm(state, outcome.clip_norm)
        content = _content(outcome)
    else:
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
            )
            content = _content(outcome)
            content[DEVICE] = session.finish(outcome.ledger, outcome.clip_norm)
    if config.coordination.probe:
        keep_update(state, server_round, content)
    return content


def _content(outcome: LocalRound) -> RecordDict:
    """Return what a client sends of a round."""
    content = RecordDict({exchange.METRICS: outcome.report.to_record()})
    if outcome.masked is not None:  # its own weights stay
        content[exchange.MASKED] = exchange.to_masked(outcome.masked)
        return content
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
