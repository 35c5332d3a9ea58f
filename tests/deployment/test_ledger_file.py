"""A device's ledger survives, and every way of losing or changing it is found out."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from clients.ledger_file import LedgerFile, Release
from fnl.errors import DeviceError
from fnl.privacy.ledger import Ledger

FIRST = Ledger().spend(1.5, 0.25, 4)
SECOND = FIRST.spend(1.5, 0.25, 4).spend(2.0, 1.0, 1)


def spent(state: Path) -> LedgerFile:
    file = LedgerFile.open(state).commit(FIRST, Release("7", 1))
    return file.commit(SECOND, Release("7", 2))


def seen(file: LedgerFile, **changes) -> dict[str, object]:
    record = {"device-id": file.device, "releases": file.releases, "ledger-tip": file.tip}
    return record | changes


def test_what_was_spent_is_there_for_the_next_process(tmp_path):
    assert LedgerFile.open(tmp_path).ledger == Ledger()
    committed = spent(tmp_path)
    opened = LedgerFile.open(tmp_path)
    assert opened == committed
    assert opened.ledger == SECOND
    assert opened.ledger.epsilon(1e-3) == SECOND.epsilon(1e-3)
    opened.check_against(seen(committed))


def test_the_tip_is_the_hmac_of_the_documented_content(tmp_path):
    file = spent(tmp_path)
    content = json.loads((tmp_path / "ledger" / "ledger.json").read_text())
    mac = content.pop("mac")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    key = (tmp_path / "ledger" / "device.key").read_bytes()
    assert mac == hmac.new(key, text.encode(), hashlib.sha256).hexdigest() == file.tip
    assert file.device not in key.hex()


def test_only_the_owner_can_read_the_key(tmp_path):
    LedgerFile.open(tmp_path)
    mode = (tmp_path / "ledger" / "device.key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize(
    ("field", "value"),
    [("releases", 1), ("entries", []), ("previous", ""), ("round", 9), ("more", 1), ("mac", "0")],
)
def test_an_edited_ledger_is_refused(tmp_path, field, value):
    spent(tmp_path)
    path = tmp_path / "ledger" / "ledger.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(DeviceError, match="changed by somebody else"):
        LedgerFile.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b"{}", b"null"])
def test_a_damaged_ledger_is_refused(tmp_path, content):
    spent(tmp_path)
    (tmp_path / "ledger" / "ledger.json").write_bytes(content)
    with pytest.raises(DeviceError, match=r"damaged|changed"):
        LedgerFile.open(tmp_path)


@pytest.mark.parametrize("name", ["ledger.json", "device.key"])
def test_a_deleted_file_is_refused_and_not_made_anew(tmp_path, name):
    spent(tmp_path)
    (tmp_path / "ledger" / name).unlink()
    for _ in range(2):
        with pytest.raises(DeviceError, match=f"{name} is missing"):
            LedgerFile.open(tmp_path)


def test_an_old_copy_and_a_new_start_are_refused_by_what_the_server_has_seen(tmp_path):
    state, copy = tmp_path / "state", tmp_path / "copy"
    LedgerFile.open(state).commit(FIRST, Release("7", 1))
    shutil.copytree(state, copy)
    now = LedgerFile.open(state).commit(SECOND, Release("7", 2))
    with pytest.raises(DeviceError, match="seen 2 releases of this client, its ledger has 1"):
        LedgerFile.open(copy).check_against(seen(now))
    with pytest.raises(DeviceError, match="its ledger has another key"):
        LedgerFile.open(tmp_path / "new").check_against(seen(now))


def test_another_history_of_the_same_length_is_refused(tmp_path):
    now = spent(tmp_path)
    with pytest.raises(DeviceError, match="not the one the server last saw"):
        now.check_against(seen(now, **{"ledger-tip": "0" * 64}))


def test_a_server_that_missed_a_reply_is_no_reason_to_refuse(tmp_path):
    file = LedgerFile.open(tmp_path)
    empty = {"device-id": "", "releases": 0, "ledger-tip": ""}
    file.check_against(empty)
    behind = seen(first := file.commit(FIRST, Release("7", 1)))
    first.commit(SECOND, Release("7", 2)).check_against(behind)


@pytest.mark.parametrize("releases", [-1, True, "3", 1.0])
def test_a_servers_record_that_is_no_count_is_refused(tmp_path, releases):
    with pytest.raises(DeviceError, match="not a count"):
        LedgerFile.open(tmp_path).check_against(
            {"device-id": "", "releases": releases, "ledger-tip": ""}
        )


def test_what_cannot_be_written_is_not_committed(tmp_path, monkeypatch):
    file = spent(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeviceError, match=r"No space left on device.*nothing was sent"):
        file.commit(SECOND.spend(1.0, 1.0, 1), Release("7", 3))
    monkeypatch.undo()
    assert LedgerFile.open(tmp_path) == file


def test_a_start_cut_short_leaves_no_half_of_a_ledger(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeviceError, match="cannot make the ledger"):
        LedgerFile.open(tmp_path)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    assert LedgerFile.open(tmp_path).releases == 0
