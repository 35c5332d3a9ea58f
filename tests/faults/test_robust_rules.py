"""A robust rule with fewer models than it needs leaves the model as it was, and says so."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from fnl.runtime.run_directory import read_run
from tests.faults.faulty_grid import run_with_faults
from tests.faults.injection import Schedule
from tests.runs import path_of, table

EIGHT = {
    "data.clients": 8,
    "coordination.candidates": 7,
    "coordination.selected": 7,
    "data.partitioner": "iid",
    "coordination.byzantine": 1,
}


@dataclass(frozen=True)
class Lost(Schedule):
    """The first of the round's replies are malformed, in round 2."""

    seed: int = 0
    share: float = 0.0
    count: int = 1
    hit: set[int] = field(default_factory=set)

    def fault(self, server_round, partition):
        if server_round == 2 and len(self.hit) < self.count:
            self.hit.add(partition)
            return "no report"
        return None


@pytest.mark.parametrize(
    ("settings", "lost"),
    [
        (EIGHT | {"coordination.aggregation": "bulyan"}, 1),
        (EIGHT | {"coordination.aggregation": "krum"}, 3),
        (EIGHT | {"coordination.aggregation": "multi-krum"}, 3),
        ({"coordination.aggregation": "trimmed-mean", "coordination.trim": 0.25}, 1),
        ({"coordination.aggregation": "median"}, 2),
    ],
    ids=["bulyan", "krum", "multi-krum", "trimmed-mean", "median"],
)
def test_too_few_models_leave_the_model(tiny, settings, lost):
    flat = tiny(**{"privacy.mode": "none", **settings})
    run_with_faults(flat, Lost(count=lost))
    assert read_run(path_of(flat))["status"] == "finished"
    faults = table(flat, "faults").filter(kind="unusable-model")
    assert faults["round"].to_list() == [2]
    assert "needs" in faults["reason"][0]
    moved = table(flat, "rounds")["update_norm"].to_list()
    assert moved[2] == 0.0
    assert moved[1] > 0 < moved[3]


@pytest.mark.parametrize("rule", ["krum", "multi-krum"])
def test_enough_models_are_combined(tiny, rule):
    flat = tiny(**{"privacy.mode": "none", **EIGHT, "coordination.aggregation": rule})
    run_with_faults(flat, Lost(count=2))
    assert table(flat, "faults").filter(kind="unusable-model").is_empty()
    assert table(flat, "rounds")["update_norm"][2] > 0
