"""What has left a run is on the disk before it leaves, and is never forgotten."""

import os
from collections import Counter

import pytest

from fnl.errors import RunError
from fnl.runtime.releases import FILE, Release, Releases, What


def asked(server_round: int, digest: str = "a") -> Release:
    return Release(what=What.ASKED, server_round=server_round, digest=digest)


def model(server_round: int, digest: str = "a") -> Release:
    return Release(what=What.MODEL, server_round=server_round, digest=digest, noise_multiplier=1.5)


def _counts(folder, what):
    """Return how many times each round has left, as another process reads it."""
    return Counter(release.server_round for release in Releases(folder).of(what))


def test_another_process_reads_what_one_wrote(tmp_path):
    first = Releases(tmp_path)
    first.note(asked(1), seeded=False)
    first.note(model(1), seeded=False)
    again = Releases(tmp_path)
    assert list(again.of(What.ASKED)) == [asked(1)]
    assert list(again.of(What.MODEL)) == [model(1)]


def test_a_repetition_with_fresh_noise_counts_and_one_of_the_same_bits_does_not(tmp_path):
    releases = Releases(tmp_path)
    for _ in range(3):
        releases.note(model(5), seeded=False)
        releases.note(model(6), seeded=True)
    assert _counts(tmp_path, What.MODEL) == {5: 3, 6: 1}


def test_other_bits_under_the_same_noise_do_not_leave(tmp_path):
    releases = Releases(tmp_path)
    releases.note(model(6), seeded=True)
    with pytest.raises(RunError, match=r"round 6 was released before .* would cancel"):
        Releases(tmp_path).note(model(6, "other bits"), seeded=True)
    releases.note(model(7, "other bits"), seeded=True)
    releases.note(model(7), seeded=False)
    with pytest.raises(RunError, match=r"round 7 was released before"):
        releases.note(model(7), seeded=True)
    assert _counts(tmp_path, What.MODEL) == {6: 1, 7: 2}


def test_it_is_on_the_disk_before_note_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    Releases(tmp_path).note(asked(1), seeded=False)
    assert (tmp_path / FILE).stat().st_size in synced


def test_a_line_cut_short_was_never_released(tmp_path):
    releases = Releases(tmp_path)
    releases.note(asked(1), seeded=False)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"what": "asked", "server_ro')
    again = Releases(tmp_path)
    again.note(asked(2), seeded=False)
    assert _counts(tmp_path, What.ASKED) == {1: 1, 2: 1}


@pytest.mark.parametrize("line", [b"{}", b"nonsense", b'{"what":"asked","server_round":-1}'])
def test_a_damaged_record_is_one_error_that_names_the_file(tmp_path, line):
    (tmp_path / FILE).write_bytes(line + b"\n")
    with pytest.raises(RunError, match=r"releases.jsonl is damaged in line 1"):
        Releases(tmp_path)


def test_what_cannot_be_written_is_not_released(tmp_path):
    with pytest.raises(RunError, match=r"cannot write .*releases.jsonl"):
        Releases(tmp_path / "gone").note(asked(1), seeded=False)


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    releases = Releases(tmp_path)
    releases.note(asked(1), seeded=False)

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="No space left on device"):
            releases.note(asked(2), seeded=False)
    releases.note(asked(3), seeded=False)
    assert _counts(tmp_path, What.ASKED) == {1: 1, 3: 1}
