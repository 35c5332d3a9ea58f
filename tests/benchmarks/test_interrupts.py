"""Ctrl-C in a terminal, at any instant, ends a run and its workers."""

from __future__ import annotations

import pytest

from benchmarks.interrupts import interrupt


@pytest.mark.slow
def test_no_interrupt_leaves_a_run_hanging() -> None:
    outcomes = interrupt(10, latest=15.0, patience=90.0, seed=1)
    assert outcomes["hung"] == 0
    # the system ends a process that does not listen yet, or a record that is not written to yet
    assert not [outcome for outcome in outcomes if outcome.startswith(("failed", "finished"))]
    assert not [outcome for outcome in outcomes if outcome.endswith("exit 0")]
