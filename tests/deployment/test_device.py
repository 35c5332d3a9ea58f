"""What a device does with a server's message, without a network: the ClientApp itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict

import clients.app
import fnl
from clients.app import app
from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.data.own_clips import device_federation, fixed_labels, server_federation
from fnl.errors import ConfigError, CorpusError, DeviceError
from fnl.privacy.ledger import Ledger
from fnl.runtime.deployment import check_deployable
from fnl.snn.network import build_network, initialise
from fnl.weights import get_weights
from fnl.wire import exchange
from fnl.wire.report import ClientReport
from tests.deployment.served_device import ACCOUNTED
from tests.runs import dotted

RUN = {
    "data.corpus": "device",
    "data.words": "yes,no,up",
    "data.clients": 3,
    "model.hidden": "8,8",
    "training.batch-size": 4,
    "coordination.candidates": 3,
    "coordination.selected": 2,
    "run.rounds": 2,
    "privacy.secure-noise": True,
    "privacy.rate-release": "none",
    "privacy.accountant": "rdp",
}
ONE_CLIENT = {
    "data__clients": 1,
    "coordination__candidates": 1,
    "coordination__selected": 1,
}
SHADOWS = {"evaluation__shadow": True, "privacy__mode": "none", "privacy__secure_noise": False}
NOTHING_SEEN = {"fnl-version": fnl.__version__, "device-id": "", "releases": 0, "ledger-tip": ""}


def weights() -> ArrayRecord:
    config = parse_config(RUN)
    network = build_network(config.model, config.data.mel_bins, 3)
    initialise(network, 0)
    return exchange.to_arrays(get_weights(network))


def asked(node, *, known=NOTHING_SEEN, server_round=1, **changes) -> Message:
    """Return the device's reply to one request to train."""
    content = RecordDict(
        {exchange.ARRAYS: weights(), exchange.CONFIG: ConfigRecord({exchange.ROUND: server_round})}
    )
    if known is not None:
        content["device"] = ConfigRecord(known)
    message = Message(content, dst_node_id=2, message_type=MessageType.TRAIN)
    message.metadata.__dict__["_message_id"] = "1"
    run = RUN | dotted(changes)
    context = Context(run_id=1, node_id=2, node_config=node, state=RecordDict(), run_config=run)
    return app(message, context)


def entries(node) -> list[dict[str, float]]:
    path = Path(node["state-dir"]) / "ledger" / "ledger.json"
    return json.loads(path.read_text())["entries"]


def test_a_round_is_on_disk_before_the_reply_and_the_next_process_adds_to_it(node, device_clips):
    reply = asked(node)
    known = dict(reply.content["device"])
    report = ClientReport.from_record(reply.content[exchange.METRICS])
    assert report.num_examples == len(list((device_clips / "data-1").rglob("*.wav")))
    assert known["releases"] == 1
    (first,) = entries(node)
    assert (first["noise_multiplier"], first["steps"]) == (report.noise_multiplier, report.steps)
    # a new context: nothing but the disk
    second = asked(node, known=NOTHING_SEEN | known, server_round=2)
    total = Ledger()
    for entry in entries(node):
        total = total.spend(**entry)
    assert total.steps == 2 * report.steps
    epsilon = ClientReport.from_record(second.content[exchange.METRICS]).epsilon
    assert epsilon == total.epsilon(1e-5)
    assert epsilon > report.epsilon


def test_more_rounds_than_the_budget_are_refused_over_all_runs(node):
    known = NOTHING_SEEN
    for server_round in (1, 2):
        reply = asked(node, known=known, server_round=server_round)
        known = NOTHING_SEEN | dict(reply.content["device"])
    before = entries(node)
    for changes in ({}, {"run__seed": 1}):  # a further round, another run: the same clips
        refusal = asked(node, known=known, **changes)
        assert list(refusal.content) == [exchange.REFUSAL]
        assert "epsilon" in str(refusal.content[exchange.REFUSAL]["reason"])
    assert entries(node) == before
    assert asked(node, known=known, privacy__epsilon=40.0).content["device"]["releases"] == 3


def test_the_devices_own_budget_holds_whatever_the_run_says(node):
    node["epsilon-budget"] = 3
    for accountant in ("rdp", "prv"):
        run = ACCOUNTED | {"privacy__noise_multiplier": 0.6, "privacy__accountant": accountant}
        refusal = asked(node, **run)
        reason = str(refusal.content[exchange.REFUSAL]["reason"])
        assert "the device's epsilon-budget = 3 would be overdrawn" in reason
    assert entries(node) == []


def test_a_ledger_is_not_undone_by_a_run_without_privacy(node):
    known = NOTHING_SEEN | dict(asked(node).content["device"])
    with pytest.raises(
        DeviceError, match=r"takes part under privacy.mode = 'record' or 'both' only"
    ):
        asked(node, known=known, privacy__mode="none")


def test_a_deleted_ledger_is_refused_at_the_next_request(node):
    known = NOTHING_SEEN | dict(asked(node).content["device"])
    shutil.rmtree(node["state-dir"])
    with pytest.raises(DeviceError, match="deleted, replaced or put back"):
        asked(node, known=known)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (SHADOWS, "evaluation.shadow sends what no privacy covers"),
        ({"privacy__secure_noise": False}, "privacy.secure-noise = false"),
        ({"data__corpus": "synthetic"}, "data.corpus = 'synthetic' is for simulations"),
        ({"model__network": "os:system"}, "would import code by the server's word"),
        ({"model__neuron": "os:system"}, "would import code by the server's word"),
        (ONE_CLIENT, "no partition 1"),
    ],
)
def test_what_is_for_simulations_is_refused_before_the_clips_are_touched(node, changes, message):
    with pytest.raises(ConfigError, match=message):
        asked(node, **changes)
    assert not Path(node["state-dir"]).exists()


def test_a_server_of_another_version_or_without_its_record_is_refused(node):
    with pytest.raises(DeviceError, match=r"the server runs fnl '0.0.9'"):
        asked(node, known=NOTHING_SEEN | {"fnl-version": "0.0.9"})
    with pytest.raises(DeviceError, match="did not say what it knows"):
        asked(node, known=None)


def test_errors_about_clips_stay_on_the_device(node, device_clips, tmp_path, caplog):
    root = tmp_path / "clips"
    shutil.copytree(device_clips / "data-1", root)
    (root / "yes" / "secret-speaker_1.wav").write_bytes(b"RIFF of something")
    with pytest.raises(DeviceError, match="cannot use its clips: the device's own log") as caught:
        asked(node | {"data-root": str(root)})
    assert "secret" not in str(caught.value)
    assert "secret-speaker" in str(caught.value.__cause__)
    with pytest.raises(DeviceError) as caught:
        asked(node | {"data-root": str(tmp_path / "secret-folder")})
    assert "secret" not in str(caught.value)


def test_of_unexpected_errors_not_even_the_type_is_sent(node, monkeypatch):
    def broken(*_, **__):
        raise ValueError("clip 0.123 of secret-speaker")

    monkeypatch.setattr("clients.app.train_round", broken)
    with pytest.raises(DeviceError, match="partition 1 failed: the device's own log") as caught:
        asked(node)
    assert "secret" not in str(caught.value)
    assert "ValueError" not in str(caught.value)


def test_a_round_that_fails_is_booked(node, monkeypatch):
    """That it failed may tell something of the clips, and could be asked for again and again."""

    def broken(*_, **__):
        raise OverflowError

    with monkeypatch.context() as patch:
        patch.setattr("clients.app.train_round", broken)
        with pytest.raises(DeviceError):
            asked(node)
    (failed,) = entries(node)
    reply = asked(node, server_round=2)
    assert reply.content["device"]["releases"] == 2
    assert entries(node)[0]["steps"] == 2 * failed["steps"]


def test_a_round_that_spends_something_else_than_was_booked_is_not_sent(node, monkeypatch):
    train = clients.app.train_round

    def spends_more(*arguments, **options):
        outcome = train(*arguments, **options)
        return replace(outcome, ledger=outcome.ledger.spend(1.0, 1.0, 1))

    monkeypatch.setattr("clients.app.train_round", spends_more)
    with pytest.raises(DeviceError, match="something else than was booked: nothing was sent"):
        asked(node)


def test_the_servers_paths_are_not_used_on_a_device(node, tmp_path):
    asked(node, data__root=str(tmp_path / "bait"), data__cache_dir=str(tmp_path / "bait"))
    assert not (tmp_path / "bait").exists()
    assert (Path(node["state-dir"]) / "cache" / "features").is_dir()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state-dir": ""}, "state-dir = an absolute path"),
        ({"data-root": "relative"}, "data-root = an absolute path"),
        ({"partition-id": -1}, "partition-id"),
        ({"partition-id": "1"}, "partition-id"),
        ({"epsilon-budget": 0}, "epsilon-budget"),
        ({"epsilon-budget": float("nan")}, "epsilon-budget"),
    ],
)
def test_a_wrong_node_configuration_is_refused(node, changes, message):
    with pytest.raises(DeviceError, match=message):
        asked(node | changes)


def test_all_devices_have_the_same_labels_in_the_same_order(device_clips, tmp_path):
    config = parse_config(RUN)
    second = device_federation(config, device_clips / "data-1", tmp_path, 1)
    assert second.store.labels == ("yes", "no", "up")
    features, labels = second.client_clips(1)
    names = [path.parent.name for path in sorted((device_clips / "data-1").rglob("*.wav"))]
    assert [second.store.labels[label] for label in labels] == names
    assert set(np.unique(labels)) == {0, 1}
    assert len(features) == len(names)
    assert len(second.client_clips(0)[1]) == 0


def test_the_server_may_have_clips_of_its_own_or_none(device_clips, tmp_path):
    with_clips = parse_config(RUN | {"data.root": str(device_clips / "evaluation")})
    federation = server_federation(with_clips, tmp_path)
    assert len(federation.split_clips("test")[1]) == len(
        list((device_clips / "evaluation").rglob("*.wav"))
    )
    without = server_federation(parse_config(RUN), tmp_path)
    features, labels = without.split_clips("test")
    assert len(labels) == 0
    assert (without.classes, without.inputs) == (federation.classes, federation.inputs)
    assert features.shape[1:] == federation.split_clips("test")[0].shape[1:]


@pytest.mark.parametrize("words", ["yes", "yes,yes", "yes,,no"])
def test_labels_that_do_not_fix_a_list_are_refused(words):
    with pytest.raises(CorpusError):
        fixed_labels(words)


def test_devices_are_no_corpus_of_a_simulation():
    with pytest.raises(ConfigError, match=r"data.words = 'all'"):
        parse_config(RUN | {"data.words": "all"})
    with pytest.raises(CorpusError, match="SuperNodes"):
        open_federation(parse_config(RUN))


def test_the_server_refuses_what_devices_refuse():
    check_deployable(parse_config(RUN))
    check_deployable(parse_config(RUN | {"privacy.mode": "none", "privacy.secure-noise": False}))
    shadows = RUN | dotted(SHADOWS)
    others = [RUN | {"privacy.secure-noise": False}, RUN | {"coordination.liars": "0"}]
    for refused in (shadows, *others):
        config = parse_config(refused)
        with pytest.raises(ConfigError, match=r"simulations only|secure-noise"):
            check_deployable(config)


def test_a_device_computes_at_its_own_time_step_and_says_so(node):
    mixed = {"data__frame_hops": "10,40"}
    alone = ClientReport.from_record(asked(node, **mixed).content[exchange.METRICS])
    assert alone.frame_hop_ms == 20  # it says nothing of its own: the server's
    own = node | {"frame-hop-ms": 40, "state-dir": node["state-dir"] + "-40"}
    report = ClientReport.from_record(asked(own, **mixed).content[exchange.METRICS])
    assert report.frame_hop_ms == 40
    assert report.num_examples == alone.num_examples
    features = next(Path(own["state-dir"]).rglob("features.npy"))
    assert np.load(features, mmap_mode="r").shape[1] == 25


def test_a_device_of_another_step_than_the_runs_takes_no_part(node):
    own = node | {"frame-hop-ms": 25}
    with pytest.raises(ConfigError, match="do not have this device's time step of 25 ms"):
        asked(own, data__frame_hops="10,40")
    with pytest.raises(ConfigError, match="do not have this device's time step of 25 ms"):
        asked(own)


@pytest.mark.parametrize("hop", ["20", -1, True, 2.5])
def test_a_time_step_that_is_no_number_of_milliseconds_is_refused(node, hop):
    with pytest.raises(DeviceError, match="frame-hop-ms"):
        asked(node | {"frame-hop-ms": hop})
