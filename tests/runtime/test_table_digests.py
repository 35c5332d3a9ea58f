"""Tables of a run that is not finished are checked against what was about to be written."""

from __future__ import annotations

import pytest

from fnl.errors import RunError
from fnl.runtime import table_files
from fnl.runtime.digests import announce, check_digest
from fnl.runtime.table_files import TableFiles
from tests.runs import flip_a_bit

ROW = {"rounds": [{"round": 1, "accuracy": 0.5}], "clients": [], "layers": []}


def test_a_bit_that_flips_in_a_growing_table_is_found(tmp_path):
    tables = TableFiles(tmp_path)
    tables.add(ROW)
    tables.flush()
    path = tmp_path / "rounds.parquet"
    check_digest(path)
    flip_a_bit(path)
    with pytest.raises(RunError, match=r"rounds\.parquet is damaged"):
        check_digest(path)


def test_who_is_killed_while_tables_are_replaced_leaves_tables_that_pass(tmp_path, monkeypatch):
    tables = TableFiles(tmp_path)
    tables.add(ROW)
    tables.flush()

    class Killed(BaseException): ...

    seen = []

    def killed_at_the_second(path, write):
        seen.append(path)
        if len(seen) == 2:
            raise Killed
        path.write_bytes(b"")
        write(path)

    monkeypatch.setattr(table_files, "write_atomically", killed_at_the_second)
    tables.add(ROW)
    with pytest.raises(Killed):
        tables.flush()
    for name in ("rounds", "clients", "layers"):
        check_digest(tmp_path / f"{name}.parquet")


def test_a_damaged_record_of_digests_does_not_end_a_run(tmp_path):
    (tmp_path / "digests.json").write_text("{")
    announce(tmp_path, {"a": b"1"})
    (tmp_path / "a").write_bytes(b"2")
    with pytest.raises(RunError, match="damaged"):
        check_digest(tmp_path / "a")
