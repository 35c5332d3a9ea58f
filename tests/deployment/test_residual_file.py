"""What compression leaves unsent of a device's updates stays on its disk, with its run."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from clients import residual_file
from clients.residual_file import FILE, Belonging, load_residual, save_residual
from fnl.errors import DeviceError
from fnl.wire import exchange
from tests.deployment.served_device import Served

WITHOUT_NOISE = {"privacy__mode": "none", "privacy__secure_noise": False}
"""So that two answers to the same request are the same."""
SMALL = {**WITHOUT_NOISE, "training__sent_share": 0.1}
LIKE = {"w": np.zeros((2, 3), np.float32)}
LEFT = {"w": np.ones((2, 3), np.float32)}


def sent(content) -> dict[str, bytes]:
    return {name: array.data for name, array in content[exchange.ARRAYS].items()}


@pytest.fixture
def device(device_clips, tmp_path):
    def make(name: str) -> Served:
        return Served(device_clips, tmp_path / name)

    return make


def test_a_new_process_of_a_device_goes_on_with_what_was_left(device, tmp_path):
    one, other = device("one"), device("other")
    first = one.ask(1, **SMALL)
    assert sorted(first[exchange.ARRAYS]) == ["indices", "values"]
    assert exchange.RESIDUAL not in first  # it never leaves
    assert (tmp_path / "one" / FILE).stat().st_mode & 0o777 == 0o600
    other.ask(1, **SMALL)
    (tmp_path / "other" / FILE).unlink()
    assert sent(one.ask(3, **SMALL)) != sent(other.ask(3, **SMALL))  # a round was missed


def test_what_another_run_has_left_is_not_sent(device):
    one, fresh = device("one"), device("fresh")
    one.ask(1, **SMALL, run__seed=5)
    assert sent(one.ask(2, **SMALL)) == sent(fresh.ask(2, **SMALL))


def test_what_is_left_may_be_of_privacy_that_is_gone():
    """A run with noise never sends what a run without has left: another configuration."""
    belongs = [
        Belonging("1", identity) for identity in ("with noise", "without")
    ]  # what `Config.identity` tells apart
    assert not belongs[0].goes_on_from("1", "without")
    assert belongs[0].goes_on_from("1", "with noise")


@pytest.mark.parametrize(("run", "kept"), [("1", True), ("2", False)])
def test_only_the_run_itself_goes_on_with_what_it_left(tmp_path, run, kept):
    save_residual(tmp_path, Belonging("1", "same"), LEFT)
    left = load_residual(tmp_path, Belonging(run, "same"), LIKE)
    assert (left is not None) == kept
    if left is not None:
        np.testing.assert_array_equal(left["w"], LEFT["w"])


@pytest.mark.parametrize("damage", ["cut", "other shape", "nan", "no file of ours"])
def test_damaged_files_are_told_of_and_not_used(tmp_path, caplog, damage):
    belongs, like = Belonging("1", "same"), LIKE
    left = {"w": LEFT["w"] * np.nan} if damage == "nan" else LEFT
    save_residual(tmp_path, belongs, left)
    path = tmp_path / FILE
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    if damage == "no file of ours":
        path.write_bytes(b"\0" * 100)
    if damage == "other shape":
        like = {"w": np.zeros(7, np.float32)}
    with caplog.at_level(logging.WARNING):
        assert load_residual(tmp_path, belongs, like) is None
    assert "goes on without" in caplog.text


def test_where_it_cannot_be_kept_nothing_is_sent(device, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(residual_file, "write_atomically", full)
    with pytest.raises(DeviceError, match="nothing was sent"):
        device("one").ask(1, **SMALL)
