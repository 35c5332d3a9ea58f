"""A metric of one's own takes one edit on the server's side and two on the client's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fnl.config import parse_config
from fnl.runtime.columns import real
from fnl.runtime.in_process import run_in_process
from fnl.runtime.tables import ROUNDS, TABLES

ROOT = Path(__file__).parents[1]


def assignments(flat) -> list[str]:
    text = ((key, str(value).lower() if value in (True, False) else value) for key, value in flat)
    return [f"--set={key}={value}" for key, value in text]


def test_a_number_of_the_server_is_its_declaration(small_config, monkeypatch):
    spread = real("rate", "range of rates", of_round=lambda taken: float(np.ptp(rates(taken))))
    classes = real("", "spikes", of_model=lambda model: 1 - model.cost.activation_sparsity)
    monkeypatch.setitem(ROUNDS.columns, "rate_range", spread)
    monkeypatch.setitem(ROUNDS.columns, "activity", classes)

    def rates(taken):
        return [report.firing_rate_after for report in taken.reports]

    run_in_process(parse_config(small_config))
    (run,) = Path(str(small_config["run.results-dir"])).iterdir()
    rounds = pl.read_parquet(run / "rounds.parquet").filter(pl.col("round") > 0)
    by_round = pl.read_parquet(run / "clients.parquet").group_by("round", maintain_order=True)
    rate = pl.col("firing_rate_after")
    assert (
        rounds["rate_range"].to_list()
        == by_round.agg(rate.max() - rate.min())["firing_rate_after"].to_list()
    )
    assert rounds["activity"].to_list() == (1 - rounds["activation_sparsity"]).to_list()
    assert "| `rate_range` | range of rates | rate |" in TABLES["rounds"].markdown()


@pytest.mark.slow
def test_a_number_of_the_client_is_its_field_and_its_value(small_config, tmp_path):
    tree = tmp_path / "tree"
    for package in ("fnl", "clients", "server"):
        shutil.copytree(ROOT / package, tree / package)
    edit(
        tree / "fnl/wire/report.py",
        after="    steps: Annotated[int, Cover.PUBLIC",
        line='    clips_twice: Annotated[int | None, whole("clips", "2 n_k")] = None\n',
    )
    edit(
        tree / "fnl/training/local.py",
        after="        num_examples=client.units.count,",
        line="        clips_twice=2 * client.units.count,\n",
    )
    command = [sys.executable, "-m", "fnl.cli.main", "run", *assignments(small_config.items())]
    subprocess.run(command, check=True, cwd=tree, env={"PYTHONPATH": str(tree)}, timeout=300)
    (run,) = Path(str(small_config["run.results-dir"])).iterdir()
    clients = pl.read_parquet(run / "clients.parquet")
    assert clients["clips_twice"].to_list() == (2 * clients["num_examples"]).to_list()


def edit(path: Path, *, after: str, line: str) -> None:
    """Insert a line after the first that starts with `after`."""
    head, found, tail = path.read_text(encoding="utf-8").partition(after)
    rest, end, following = tail.partition("\n")
    assert found, after
    path.write_text(head + found + rest + end + line + following, encoding="utf-8")
