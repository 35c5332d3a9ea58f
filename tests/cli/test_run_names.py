"""Names of runs fit a narrow terminal, each on its line, and are still told apart."""

from __future__ import annotations

import pytest

from fnl.cli.run_table import shortened

CELLS = [f"nonprivate-seed{n}-82c146662{n}ca" for n in range(4)] + ["eps2-seed0-239a68115ed6"]


@pytest.mark.parametrize("room", [14, 20, 26])
def test_a_cells_name_keeps_what_tells_it_apart(room):
    short = shortened(CELLS, room)
    assert max(map(len, short)) <= room
    for name, shown in zip(CELLS, short, strict=True):
        begin, middle, end = shown.partition("…")
        assert name == shown or (middle and name.startswith(begin) and name.endswith(end))
        assert end.endswith(name.rpartition("-")[2]) or name == shown


def test_names_with_room_stay_and_those_alike_at_both_ends_get_more():
    assert shortened(CELLS, 40) == CELLS
    alike = [f"{'a' * 20}{middle}{'b' * 20}-end" for middle in "xy"]
    assert len(set(shortened(alike, 14))) == 2
