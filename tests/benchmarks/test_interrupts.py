"""Ctrl-C in a terminal, at any instant, ends a run and its workers."""

from __future__ import annotations

import pytest

from benchmarks.interrupts import interrupt


@pytest.mark.slow
def test_no_interrupt_leaves_a_run_hanging() -> None:
    endings = list(interrupt(10, patience=90.0, seed=1))
    assert any(one.where == "in its rounds" for one in endings), endings
    assert not [one for one in endings if not one.in_order]
    assert not [one for one in endings if one.where != "after its end" and "exit 0" in one.how]
