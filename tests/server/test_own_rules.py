"""The rules of docs/extending.md run as they are printed, and wrong ones are stopped by name."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import polars as pl
import pytest

from fnl.config import parse_config
from fnl.errors import ConfigError, RunError
from fnl.runtime.in_process import run_in_process
from tests.runs import run_here, table

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture
def start(tmp_path, monkeypatch, small_config):
    """Return a function that writes `own_rules.py` and runs with the given keys."""

    def run(source: str, **keys: str) -> pl.DataFrame:
        (tmp_path / "own_rules.py").write_text(source)
        flat = {**small_config, "evaluation.shadow": False}
        flat |= {f"coordination.{key}": f"own_rules:{name}" for key, name in keys.items()}
        config = parse_config(flat)
        said = []
        run_in_process(config, notify=said.append)
        directory = said[0].directory
        return pl.read_parquet(directory / "clients.parquet")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_rules", raising=False)
    yield run
    sys.modules.pop("own_rules", None)


def test_the_documented_rules_run_as_printed(start):
    text = DOCUMENT.read_text(encoding="utf-8")
    (source,) = [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "patient(" in b]
    for key, name in (("selection", "patient"), ("aggregation", "square_root")):
        assert f"coordination.{key}=own_rules:{name}" in text
    clients = start(source, selection="patient", aggregation="square_root")
    last = dict.fromkeys(range(4), 0)
    for (number,), rows in clients.group_by("round", maintain_order=True):
        selected = rows.filter("selected")
        for row in rows.iter_rows(named=True):
            waited = number - last[row["partition"]]
            assert row["score"] == pytest.approx(waited + row["firing_rate_after"])
        roots = [math.sqrt(n) for n in selected["num_examples"]]
        expected = [root / sum(roots) for root in roots]
        assert selected["weight"].to_list() == pytest.approx(expected)
        last |= dict.fromkeys(selected["partition"], number)


def test_the_documented_algorithm_runs_as_printed(tmp_path, monkeypatch, small_config):
    text = DOCUMENT.read_text(encoding="utf-8")
    (source,) = [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Agreeing(" in b]
    assert "coordination.algorithm=own_algorithm:Agreeing" in text
    (tmp_path / "own_algorithm.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    norms = {}
    for tau in ("0.0", "2.0"):
        flat = {
            **small_config, "evaluation.shadow": False, "run.name": f"tau{tau}",
            "coordination.algorithm": "own_algorithm:Agreeing",
            "coordination.options": f"tau={tau}",
        }  # fmt: skip
        run_here(flat)
        norms[tau] = table(flat, "rounds")["update_norm"][1]
    sys.modules.pop("own_algorithm", None)
    assert norms["2.0"] < norms["0.0"]  # two updates never agree wholly


def test_a_rule_may_say_more_than_whom_it_selects(start):
    """A subclass of what rules return is one of it."""
    source = """
from dataclasses import dataclass
import numpy as np
from server.selection import Selection

@dataclass(frozen=True)
class Told(Selection):
    why: str = ""

def mine(reports, context):
    return Told(np.arange(len(reports)), np.arange(context.count), why="the first")
"""
    assert start(source, selection="mine")["selected"].sum() == 4


SELECTION = "import numpy as np\nfrom server.selection import Selection\n"


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("selection", "np.array([float('nan')] * 3)", "a score that is not finite"),
        ("selection", "np.ones(4)", "one score a candidate"),
        ("selection", "np.ones((3, 1))", "one score a candidate"),
        ("selection", "Selection(np.ones(3), np.array([1, 1]))", "more than once"),
        (
            "selection",
            "Selection(np.ones(3), np.array([0, 1, 2]))",
            "must select coordination.selected = 2",
        ),
        ("aggregation", "[1.0, -1.0]", "weights must be finite and not negative"),
        ("aggregation", "[1.0, float('nan')]", "weights must be finite and not negative"),
        ("aggregation", "[1.0]", "one weight a client"),
    ],
)
def test_what_a_rule_may_not_return_stops_the_run_with_its_name(kind, body, message, start):
    source = f"{SELECTION}def mine(reports, context):\n    return {body}\n"
    with pytest.raises(RunError, match=message) as caught:
        start(source, **{kind: "mine"})
    assert "'own_rules:mine'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rule_that_is_not_there_is_seen_before_any_work(start, tmp_path):
    with pytest.raises(ConfigError, match=r"coordination\.selection = 'own_rules:absent'"):
        start("", selection="absent")
    assert not (tmp_path / "results").exists()
