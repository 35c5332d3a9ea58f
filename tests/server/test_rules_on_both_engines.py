"""All rules give the same models in process and on Flower's simulation.

Every round of one run applies another selection and another weighting rule, by a rule of our own
that hands over to the built-in one of its round; the robust rules and optimizers take a run each.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from fnl.config.rules import ROBUST, SELECTIONS, WEIGHTINGS
from fnl.runtime.run_directory import read_run
from tests.runs import ROOT, directory_of, fnl, settings

IN_TURN = """
from fnl.config.rules import SELECTIONS, WEIGHTINGS
from server.aggregation import AGGREGATION_RULES
from server.selection import SELECTION_RULES


def in_turn(rules, context):
    return list(rules)[context.server_round % len(rules)]


def selection(reports, context):
    return SELECTION_RULES[in_turn(SELECTIONS, context)](reports, context)


def weighting(reports, context):
    return AGGREGATION_RULES[in_turn(WEIGHTINGS, context)](reports, context)
"""
RUNS = {
    "in-turn": {
        "coordination.selection": "rules_in_turn:selection",
        "coordination.aggregation": "rules_in_turn:weighting",
        "coordination.server-optimizer": "fedadam",
        "run.rounds": max(len(SELECTIONS), len(WEIGHTINGS)),
    },
    **{
        rule: {
            "coordination.aggregation": rule,
            "coordination.server-optimizer": optimizer,
            "coordination.probe": True,
            "training.proximal-mu": 0.1,
        }
        for rule, optimizer in zip(
            ROBUST, ("none", "fedavgm", "fedadagrad", "fedyogi", "none"), strict=True
        )
    },
}


def _run(*arguments, flat, modules: Path) -> Path:
    path = os.pathsep.join((str(modules), str(ROOT)))
    return directory_of(fnl("run", *arguments, *settings(flat), path=path))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_rules_give_the_same_bits_on_both_engines(name, small_config, tmp_path):
    (tmp_path / "rules_in_turn.py").write_text(IN_TURN)
    flat = {
        **small_config, "model.hidden": "12", "coordination.candidates": 4,
        "coordination.selected": 3, "coordination.byzantine": 0, "coordination.trim": 0.34,
        "coordination.krum-average": 2, "run.rounds": 5, **RUNS[name],
    }  # fmt: skip
    ours = _run(flat=flat, modules=tmp_path)
    flower = _run("--engine=flower", flat=flat, modules=tmp_path)
    assert read_run(ours)["model_sha256"] == read_run(flower)["model_sha256"]
    for table in ("rounds", "clients", "layers"):
        one, other = (
            pl.read_parquet(path / f"{table}.parquet").drop("seconds", strict=False)
            for path in (ours, flower)
        )
        assert one.equals(other, null_equal=True), table
