"""A device keeps the public weights that nobody sends it, and trains beside no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict

import fnl
from clients.app import app
from clients.device import Device
from clients.public_start import device_start
from fnl.config import parse_config
from fnl.data.own_clips import server_federation
from fnl.errors import DeviceError
from fnl.interchange.pretrained import load_pretrained
from fnl.training.start import start_network
from fnl.weights import get_weights
from fnl.wire import exchange
from tests.deployment.served_device import RUN
from tests.training.starts import public_weights

PART = RUN | {"training.trained": "readout", "model.initial": "/the/server's/own.safetensors"}


@pytest.fixture
def weights(tmp_path) -> Path:
    """Public weights of another run's seed, as the device has them on its disk."""
    path = tmp_path / "public.safetensors"
    config = parse_config(RUN | {"run.seed": 3})
    public_weights(path, config, server_federation(config, tmp_path / "cache"))
    return path


def asked(node, weights: Path, told: str) -> Message:
    """Return the device's reply to the first request of a server with its own copy."""
    config = parse_config(PART | {"model.initial": str(weights)})
    network = start_network(config, server_federation(config, weights.parent / "cache"))
    instructions = {exchange.ROUND: 1, exchange.INITIAL: told}
    seen = {"fnl-version": fnl.__version__, "device-id": "", "releases": 0, "ledger-tip": ""}
    content = RecordDict(
        {
            exchange.ARRAYS: exchange.to_arrays(get_weights(network)),
            exchange.CONFIG: ConfigRecord(instructions),
            "device": ConfigRecord(seen),
        }
    )
    message = Message(content, dst_node_id=2, message_type=MessageType.TRAIN)
    message.metadata.__dict__["_message_id"] = "1"
    return app(
        message,
        Context(run_id=1, node_id=2, node_config=node, state=RecordDict(), run_config=PART),
    )


def booked(node) -> bool:
    return (Path(node["state-dir"]) / "ledger" / "ledger.json").exists()


def test_a_device_trains_beside_its_own_copy_and_sends_the_trained_part(node, weights):
    digest = load_pretrained(str(weights))[1].sha256
    reply = asked({**node, "initial-weights": str(weights)}, weights, digest)
    sent = exchange.from_arrays(reply.content[exchange.ARRAYS])
    assert sorted(sent) == ["readout.linear.bias", "readout.linear.weight"]
    assert booked(node)


@pytest.mark.parametrize(
    ("copy", "told", "message"),
    [
        (False, "", "the node configuration needs initial-weights = an absolute path"),
        (True, "0" * 64, "the device's initial-weights have the digest .*, not 000000000000 as"),
    ],
)
def test_without_the_same_copy_it_refuses_before_anything_is_spent(
    node, weights, copy, told, message
):
    own = {"initial-weights": str(weights)} if copy else {}
    with pytest.raises(DeviceError, match=message):
        asked(node | own, weights, told)
    assert not booked(node)


def test_a_damaged_copy_is_refused_without_its_path(node, weights, tmp_path):
    copied = tmp_path / "copy.safetensors"
    copied.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(DeviceError, match="cannot be used: its own log says why") as caught:
        asked(node | {"initial-weights": str(copied)}, weights, "")
    assert str(tmp_path) not in str(caught.value)


def test_where_all_is_trained_all_is_sent_and_no_copy_is_needed(weights):
    config = parse_config(PART | {"training.trained": "all"})
    assert device_start(config, None, ConfigRecord({exchange.INITIAL: "0"})) is config
    drawn = parse_config(PART | {"model.initial": ""})  # from the seed, which devices know
    assert device_start(drawn, None, ConfigRecord()) is drawn


def test_a_copy_has_an_absolute_path(node):
    with pytest.raises(DeviceError, match="initial-weights that are no absolute path"):
        Device.of(node | {"initial-weights": "here.safetensors"})
