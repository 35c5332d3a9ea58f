"""Ctrl-C in a terminal, at any instant, ends a run and its workers."""

from __future__ import annotations

import pytest

from benchmarks.interrupts import interrupt


@pytest.mark.slow
def test_no_interrupt_leaves_a_run_hanging() -> None:
    outcomes = interrupt(10, latest=15.0, patience=90.0, seed=1)
    assert outcomes["hung"] == 0
    assert set(outcomes) <= {"interrupted, exit 130", "not begun, exit 130", "hung"}
