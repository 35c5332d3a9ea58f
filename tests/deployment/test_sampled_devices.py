"""Devices that are asked in secret: the operating system draws them, and a round may ask nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from fnl.runtime.run_directory import read_run
from tests.deployment.guide import Deployment

ROUNDS = 5
RUN = f"""
data.corpus = "device"
data.words = "yes,no,up"
data.clients = 3
data.root = "$CLIPS/evaluation"
privacy.mode = "client"
privacy.secure-noise = true
coordination.schedule = "poisson"
coordination.candidates = 1
coordination.selected = 1
coordination.selection = "random"
coordination.aggregation = "fedavg"
run.rounds = {ROUNDS}
run.results-dir = "$STATE/results"
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def devices(deployment: Deployment) -> Iterator[Deployment]:
    """Three devices that take the server's word: noise is its own."""
    guide, names = deployment.command, ("device-0", "device-1", "device-2")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(
        deployment, "command", lambda name: guide(name).replace("FNL_EPSILON_BUDGET=20 ", "")
    )
    for name in names:
        deployment.start(name)
    for name in names:
        deployment.wait(name, lambda said: "SuperNode ID" in said)
    yield deployment
    monkeypatch.undo()


def test_devices_are_drawn_and_a_round_without_any_is_noise(devices):
    write = f'cat > "$STATE/sampled.toml" <<TOML\n{RUN}TOML\n'
    start = 'flwr run . deployment --run-config "$STATE/sampled.toml" --stream'
    said = devices.run(write + start).stdout
    directory = re.search(r'fnl: RunFinished {"directory": "([^"]+)"}', said)
    assert directory, said
    path = Path(directory[1])
    record = read_run(path)
    assert record["engine"] == "flower-deployment"
    privacy = record["privacy"]
    assert isinstance(privacy, dict)
    assert "drawn by the operating system's generator" in privacy["candidates"]
    rounds, clients = (pl.read_parquet(path / f"{n}.parquet") for n in ("rounds", "clients"))
    asked = [clients.filter(round=number).height for number in range(1, ROUNDS + 1)]
    assert rounds["answered"].to_list()[1:] == asked
    assert set(clients["weight"]) <= {1.0}  # 1/d: the server does not know how many clips they have
    assert (rounds["update_norm"][1:] > 0).all()
    assert 7.8 < rounds["epsilon_client"][-1] <= 8
