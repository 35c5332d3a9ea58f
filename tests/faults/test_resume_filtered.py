"""A selection that remembers earlier rounds goes on to the same bits after it was killed."""

from __future__ import annotations

import shutil

import pytest

from fnl.config import parse_config
from tests.faults.conftest import RESUMED
from tests.faults.killing import run_and_kill
from tests.runs import assert_same_run, path_of, run_here, table

REMEMBERS = RESUMED | {
    "coordination.candidates": 3,
    "coordination.selected": 2,
    "coordination.max-share": 0.7,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule",
    [
        {"coordination.selection": "highest-rate", "coordination.estimate": "filtered"},
        {"coordination.selection": "rate-change-global"},
    ],
    ids=["filtered", "rate-change-global"],
)
def test_what_a_selection_remembers_outlives_a_kill(rule, small_config, tmp_path):
    flat = parse_config(small_config | REMEMBERS | rule).flat()
    assert not run_and_kill(flat, 0, tmp_path / "instants")
    whole = tmp_path / "whole"
    shutil.move(path_of(flat), whole)
    instants = int((tmp_path / "instants").read_text())
    assert run_and_kill(flat, instants * 3 // 5, tmp_path / "unused")
    run_here(flat)
    assert_same_run(path_of(flat), whole)
    rounds = table(flat, "rounds")
    known = rounds["score_reliability"].drop_nulls()
    assert len(known) == (4 if "coordination.estimate" in rule else 0)
