"""What a server remembers of its devices' ledgers: it grows, and outlives the run."""

from __future__ import annotations

import json

import pytest
from flwr.app import ConfigRecord, Error, Message, MessageType, RecordDict

import fnl
from fnl.errors import RunError
from fnl.runtime.deployment import DEVICE
from server.devices import DEVICES_FILE, SeenLedgers

NODE, PARTITION = 70, 1
NEVER = {"fnl-version": fnl.__version__, "device-id": "", "releases": 0, "ledger-tip": ""}


def reply(node: int = NODE, record: object = None, **said: object) -> Message:
    """Return what comes back from `node`; it says `said` of its ledger."""
    request = Message(RecordDict(), node, MessageType.TRAIN)
    if record == "error":
        return Message(Error(0, "gone"), reply_to=request)
    device = {"device-id": "d", "releases": 1, "ledger-tip": "t", **said}
    content = RecordDict({DEVICE: ConfigRecord(device)})  # type: ignore[arg-type]
    return Message(content, reply_to=request)


def test_what_a_device_said_last_is_shown_to_it_in_later_runs_too(tmp_path):
    seen = SeenLedgers({NODE: PARTITION}, str(tmp_path))
    assert dict(seen.told(PARTITION)) == NEVER
    seen.note([reply(), reply(releases=3, **{"ledger-tip": "third"})])
    told = {**NEVER, "device-id": "d", "releases": 3, "ledger-tip": "third"}
    assert dict(seen.told(PARTITION)) == told
    assert dict(seen.told(0)) == NEVER
    later = SeenLedgers({9: PARTITION}, str(tmp_path))
    assert dict(later.told(PARTITION)) == told


@pytest.mark.parametrize(
    "said",
    [
        {"releases": 2, "device-id": "other"}, {"releases": 1}, {"node": 71, "releases": 9},
        {"record": "error"}, {"releases": "9"}, {"releases": 2**53}, {"releases": 9.0},
        {"releases": 9, "ledger-tip": "t" * 65}, {"releases": 9, "device-id": 5},
    ],
)  # fmt: skip
def test_it_never_goes_backwards_and_takes_nothing_that_devices_do_not_say(tmp_path, said):
    seen = SeenLedgers({NODE: PARTITION}, str(tmp_path))
    seen.note([reply(releases=2)])
    before = (tmp_path / DEVICES_FILE).read_text()
    assert json.loads(before) == {"1": {"device": "d", "releases": 2, "tip": "t"}}
    seen.note([reply(**said)])
    assert (tmp_path / DEVICES_FILE).read_text() == before


def test_a_damaged_record_is_no_reason_to_forget(tmp_path):
    (tmp_path / DEVICES_FILE).write_text("{")
    with pytest.raises(RunError, match="restore it from a copy"):
        SeenLedgers({}, str(tmp_path))
