"""Reports and rounds made up for rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from flwr.supercore.task_identity import TaskIdentity

from fnl.config import CoordinationGroup
from fnl.randomness import Purpose, stream
from fnl.wire.report import ClientReport
from server.context import History, RoundContext

CLIENTS = 20


@pytest.fixture
def report() -> Callable[..., ClientReport]:
    """Return a maker of reports: a partition, and the fields that matter."""

    def make(partition: int, **fields: object) -> ClientReport:
        values: dict[str, object] = {
            "num_examples": 10, "steps": 1, "sample_rate": 1.0, "seconds": 0.0,
            "firing_rate_before": 0.1, "firing_rate_after": 0.1,
            "layer_rates_before": [0.1], "layer_rates_after": [0.1],
            "class_rates_before": [0.1], "class_rates_after": [0.1], "update_norm": 1.0,
        }  # fmt: skip
        return ClientReport.from_values({"partition": partition, **values, **fields})

    return make


@pytest.fixture
def in_round() -> Callable[..., RoundContext]:
    """Return a maker of rounds: candidates, how many to select, settings, and what was before."""

    def make(
        candidates: Sequence[ClientReport] = (),
        *,
        count: int = 2,
        seed: int = 0,
        server_round: int = 1,
        past: Sequence[Sequence[int]] = (),
        **settings: object,
    ) -> RoundContext:
        history = History.empty(CLIENTS)
        for number, partitions in enumerate(past, start=1):
            history = history.after(number, partitions)
        return RoundContext(
            server_round=max(server_round, len(past) + 1),
            candidates=tuple(candidates),
            count=count,
            stream=stream(seed, Purpose.SELECTION, 1),
            history=history,
            settings=CoordinationGroup(selected=count, **settings),  # type: ignore[arg-type]
        )

    return make


@pytest.fixture
def flower_identity(monkeypatch):
    """Let Flower build messages outside an engine."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def models() -> list[dict[str, np.ndarray]]:
    """Seven models of two arrays, by chance."""
    draw = np.random.default_rng(0)
    return [
        {
            "weight": draw.normal(size=(3, 4)).astype(np.float32),
            "bias": draw.normal(size=4).astype(np.float32),
        }
        for _ in range(7)
    ]
